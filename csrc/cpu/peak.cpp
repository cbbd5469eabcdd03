#include "peak.h"

#include <chrono>
#include <vector>

#include "dispatch.h"
#include "parallel.h"

namespace efcn {

double fma_peak(Dtype dtype, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto elapsed = [](Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); };
  const auto spin = kernels().rows[dtype].spin;
  // one to a few milliseconds: long beside the start of a thread, short beside the time slices of a busy machine
  const int64_t steps = 1 << 18;
  const int64_t threads = thread_count();
  std::vector<double> operations(static_cast<size_t>(threads));
  double best = 0;
  const auto start = Clock::now();
  do {
    const auto repeat = Clock::now();
    // by thread, not by task: a free thread must not take the share of another
    torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) operations[static_cast<size_t>(i)] = spin(steps);
    });
    double total = 0;
    for (double part : operations) total += part;
    const double rate = total / elapsed(repeat);
    best = rate > best ? rate : best;
  } while (elapsed(start) < seconds);
  return best;
}

}  // namespace efcn
