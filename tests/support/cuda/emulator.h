// the kernels' own bodies on the host, and what their numbering of programs and lines means; one library for each op, for ctypes.
// What the kernels are and which is chosen is in choose.cpp, which compiles in a tenth of the time
#pragma once

#include <vector>

#include "choose.h"
#include "emulated_warp.h"
#include "numbered.h"

namespace efcn {

// what came of an emulation. conflicts: how many times a bank of shared memory kept a warp waiting
struct Outcome {
  int64_t programs, shared_bytes, conflicts;
  char message[200];
};

template <class T>
void count_view(Memory& memory, const View& view, int64_t batch, int64_t sites, int64_t channels, bool writable) {
  const bool none = batch == 0 || sites == 0 || channels == 0;
  const int64_t last = none ? 0 : (batch - 1) * view.batch + (sites - 1) * view.site + (channels - 1) * view.channel + 1;
  memory.add(view.data, last, sizeof(T), writable);
}

template <class C>
void describe(Memory& memory, const ProductJob& job, int64_t sources) {
  using T = typename C::T;
  count_view<T>(memory, job.y, job.batch, job.rows, job.out, true);
  count_view<T>(memory, job.x, job.batch, sources, job.in, false);
  memory.add(job.values, job.entries * job.out * job.in, sizeof(T), false);
}

template <class C>
void describe(Memory& memory, const WeightJob& job, int64_t sources) {
  using T = typename C::T;
  memory.add(job.gvalues, job.entries * job.out * job.in, sizeof(T), true);
  count_view<T>(memory, job.gy, job.batch, job.rows, job.out, false);
  count_view<T>(memory, job.x, job.batch, sources, job.in, false);
}

inline void guard(const int32_t*& numbers, int64_t count, std::vector<std::unique_ptr<Guarded>>& kept) {
  if (!numbers) return;
  kept.push_back(std::make_unique<Guarded>(numbers, static_cast<size_t>(count) * 4, 4));
  numbers = reinterpret_cast<const int32_t*>(kept.back()->data());
}
inline void guard_numbers(ProductJob& job, std::vector<std::unique_ptr<Guarded>>& kept) { guard(job.number, job.entries, kept); }
inline void guard_numbers(WeightJob&, std::vector<std::unique_ptr<Guarded>>&) {}

template <class C, class Job>
void emulate(const Job& plain, int64_t sources, int64_t members, const Schedule& schedule, Outcome& outcome, int32_t* counts) {
  using Body = decltype(body_of<C>(plain));
  Job job = prepared<C>(plain);
  if constexpr (std::is_same_v<Job, ProductJob>) {
    if (members > 0) job.members = members;
  }
  std::vector<std::unique_ptr<Guarded>> kept;
  guard(job.begin, job.rows + 1, kept);
  guard(job.source, job.entries, kept);
  guard_numbers(job, kept);
  Memory memory;
  describe<C>(memory, job, sources);
  outcome.programs = Body::programs(job);
  outcome.shared_bytes = Body::shared_bytes(job);
  for (int64_t program = 0; program < outcome.programs && memory.message.empty(); ++program) {
    const Guarded shared(nullptr, static_cast<size_t>(outcome.shared_bytes), 16);
    memory.share(shared.data(), outcome.shared_bytes);
    const bool met = Fibers::run(C::warps, schedule, [&](int index) {
      EmulatedWarp<typename Body::Lane> warp(index, memory, schedule);
      Body::run(warp, job, program, shared.data());
      if (warp.is_waiting()) memory.fail("copies on their way at the end");
    });
    if (!met) memory.fail("some warps ended while others wait at a barrier");
  }
  memory.counts(counts);
  outcome.conflicts = memory.conflicts;
  snprintf(outcome.message, sizeof(outcome.message), "%s", memory.message.c_str());
}

}  // namespace efcn

// number: of a kernel, counts: for each number of the regions in turn, how often it was copied or written
#define EFCN_EMULATE(Kernels, Job)                                                                                           \
  extern "C" void run(const efcn::Job* job, int number, int64_t sources, int64_t members, bool backwards, bool late,         \
                      efcn::Outcome* outcome, int32_t* counts) {                                                             \
    efcn::with<Kernels>(number, [&](auto of) {                                                                               \
      efcn::emulate<typename decltype(of)::type>(*job, sources, members, efcn::Schedule{backwards, late}, *outcome, counts); \
    });                                                                                                                      \
  }
