#include "scratch.h"

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace efcn {
namespace {

// what the process keeps between calls, at most. Packing into pages that are fresh each time cost as much again as the packing (3->64 k4 s2
// @32, contiguous, N = 250: a step of 31 ms without, 25 ms with)
constexpr size_t most_kept = size_t{64} << 20;
// smaller pieces are malloc's own affair
constexpr size_t least_kept = size_t{1} << 16;

struct Piece {
  void* data;
  size_t bytes;
};

// a lock that is taken, by another thread or at the moment of a fork, is not waited for: then memory is simply fresh
std::mutex lock;
// never destroyed: a thread may still compute while the process ends
auto& kept = *new std::vector<Piece>;
size_t kept_bytes = 0;

Piece take(size_t bytes) {
  const std::unique_lock<std::mutex> held(lock, std::try_to_lock);
  if (held) {
    for (size_t i = 0; i < kept.size(); ++i) {
      // a piece more than twice as large would be missed elsewhere
      if (kept[i].bytes < bytes || kept[i].bytes / 2 > bytes) continue;
      const Piece piece = kept[i];
      kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(i));
      kept_bytes -= piece.bytes;
      return piece;
    }
  }
  return {nullptr, 0};
}

bool keep(Piece piece) {
  const std::unique_lock<std::mutex> held(lock, std::try_to_lock);
  if (!held || piece.bytes > most_kept) return false;
  while (kept_bytes + piece.bytes > most_kept) {
    std::free(kept.front().data);
    kept_bytes -= kept.front().bytes;
    kept.erase(kept.begin());
  }
  kept.push_back(piece);
  kept_bytes += piece.bytes;
  return true;
}

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

Scratch::Scratch(size_t bytes) : bytes_(bytes) {
  if (bytes >= least_kept) {
    const Piece piece = take(bytes);
    if (piece.data) {
      data_ = piece.data;
      bytes_ = piece.bytes;
      return;
    }
  }
  const size_t line = 64;
  bytes_ = (bytes + line - 1) / line * line + line;
  data_ = std::aligned_alloc(line, bytes_);
  if (!data_) throw std::bad_alloc();
  prefer_large_pages(data_, bytes_);
}

Scratch& Scratch::operator=(Scratch&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Scratch::~Scratch() {
  if (!data_) return;
  if (bytes_ < least_kept || !keep({data_, bytes_})) std::free(data_);
}

}  // namespace efcn
