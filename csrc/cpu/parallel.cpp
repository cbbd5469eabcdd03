#include "parallel.h"

#include <pthread.h>

namespace efcn {
namespace {

bool forked = false;
const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

}  // namespace

bool in_forked_child() { return registered == 0 && forked; }

}  // namespace efcn
