// tasks on torch's own threads
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <torch/csrc/stable/ops.h>

#include "problem.h"
#include "scratch.h"

namespace efcn {

// true in a child of fork(): the threads of the pool did not survive, and waiting for them would never end
bool in_forked_child();

inline int64_t thread_count() { return in_forked_child() ? 1 : static_cast<int64_t>(torch::stable::get_num_threads()); }

// tasks to cut a pass into, so that threads end together although border sites have less to do. Each task of a product copies the images
// that it reads: with 16 a thread a site that one thread computes alone reached 54 % of the peak, undivided 65 %
inline int64_t wanted_tasks() { return thread_count() == 1 ? 1 : 8 * thread_count(); }

// calls body(task, scratch) for every task in [0, count). Each thread goes through a range of its own, then takes what is left of the
// others'. Neighbouring tasks share images, and a product asks for the weights of the next one ahead, so a thread takes neighbours. Each
// task owns its part of the output: the result depends neither on the number of threads nor on who took what
template <class Body>
void run_tasks(int64_t count, size_t scratch_bytes, const Body& body) {
  if (count <= 0) return;
  const int64_t threads = thread_count(), workers = count < threads ? count : threads;
  // a whole number of lines apart, and one more, so that threads share none
  const size_t pitch = scratch_bytes ? (scratch_bytes + 63) / 64 * 64 + 64 : 0;
  const Scratch memory(pitch * static_cast<size_t>(workers));
  std::vector<std::atomic<int64_t>> next(static_cast<size_t>(workers));
  for (int64_t range = 0; range < workers; ++range) next[static_cast<size_t>(range)] = part_start(count, workers, range);
  const auto work = [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      char* scratch = static_cast<char*>(memory.get()) + pitch * static_cast<size_t>(worker);
      for (int64_t i = 0; i < workers; ++i) {
        const int64_t range = (worker + i) % workers, stop = part_start(count, workers, range + 1);
        for (std::atomic<int64_t>& first = next[static_cast<size_t>(range)];;) {
          const int64_t task = first++;
          if (task >= stop) break;
          body(task, scratch);
        }
      }
    }
  };
  if (workers == 1) {
    work(0, 1);
  } else {
    torch::stable::parallel_for(0, workers, 1, work);
  }
}

}  // namespace efcn
