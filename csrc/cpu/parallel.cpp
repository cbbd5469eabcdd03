#include "parallel.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <pthread.h>

namespace efcn {
namespace {

bool forked = false;
const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

}  // namespace

void prefer_large_pages(void* begin, size_t bytes) {
#if defined(__linux__)
  const uintptr_t page = uintptr_t{1} << 21;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + page - 1) / page * page;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(begin) + bytes) / page * page;
  // advice: where it is not taken, nothing is lost
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)begin;
  (void)bytes;
#endif
}

bool in_forked_child() { return registered == 0 && forked; }

}  // namespace efcn
