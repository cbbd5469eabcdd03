// which of the compiled kernels takes a problem: what its memory allows, then how many programs there are
#pragma once

#include "configs.h"
#include "product.h"
#include "weight.h"

namespace efcn {

// so many programs fill a chip (an H200 has 132 multiprocessors, an A100 108); unmeasured
constexpr int64_t enough_programs = 128;

inline bool aligned(const void* data, int bytes) { return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(bytes) == 0; }

// whether BYTES can be copied at a time from a tensor that lies along `along` (rows: of x images, of gy in grad-weight channels)
template <int BYTES, int SIZE>
bool wide_copies(const View& view, bool along_images, int64_t channels) {
  constexpr int64_t width = BYTES / SIZE;
  if (width == 1 && along_images) return true;
  if (!aligned(view.data, BYTES)) return false;
  if (along_images) return view.batch == 1 && view.site % width == 0 && view.channel % width == 0;
  return view.channel == 1 && channels > 1 && channels % width == 0 && view.site % width == 0 && view.batch % width == 0;
}

template <class C>
bool fits(const ProductJob& job) {
  constexpr int size = sizeof(typename C::T);
  const int64_t run = C::A::along == Along::depth ? job.in : job.out;
  if (C::a_bytes > size && (run % (C::a_bytes / size) != 0 || !aligned(job.values, C::a_bytes))) return false;
  return wide_copies<C::b_bytes, size>(job.x, C::B::along == Along::rows, job.in);
}

template <class C>
bool fits(const WeightJob& job) {
  constexpr int size = sizeof(typename C::T);
  return wide_copies<C::a_bytes, size>(job.gy, C::A::along == Along::depth, job.out) &&
         wide_copies<C::b_bytes, size>(job.x, C::B::along == Along::depth, job.in);
}

// as many neighbours together as fill the tile, if their windows are short enough to be merged
template <class C>
ProductJob prepared(ProductJob job) {
  const int64_t window = job.entries / job.rows + 1, filling = C::M / job.out, merged = most_merged / window;
  const int64_t most = filling < merged ? filling : merged;
  job.members = most < 1 ? 1 : most > most_members ? most_members : most;
  while (job.members > 1 && Product<C>::programs(job) < enough_programs) job.members /= 2;
  return job;
}

template <class C>
WeightJob prepared(WeightJob job) {
  return job;
}

template <class C>
Product<C> body_of(const ProductJob&);
template <class C>
Weight<C> body_of(const WeightJob&);

// the number of a kernel in `Kernels`, or -1: matrix units before cores, then the widest copies, then the first tile that makes enough
// programs, else the smallest
template <class Kernels, class Job>
int choose(const Job& job, Math math, Path path) {
  int number = 0, chosen = -1;
  bool enough = false, units = false;
  Along a{}, b{};
  int a_bytes = 0, b_bytes = 0;
  Kernels::each([&](auto of) {
    using C = typename decltype(of)::type;
    const int mine = number++;
    const bool wanted = C::math == math && !enough && !(path == Path::cuda_cores && C::units) && !(path == Path::matrix_units && !C::units);
    if (!wanted || !fits<C>(job)) return;
    const bool same = C::units == units && C::A::along == a && C::B::along == b && C::a_bytes == a_bytes && C::b_bytes == b_bytes;
    if (chosen >= 0 && !same) return;
    chosen = mine, units = C::units, a = C::A::along, b = C::B::along, a_bytes = C::a_bytes, b_bytes = C::b_bytes;
    enough = decltype(body_of<C>(job))::programs(prepared<C>(job)) >= enough_programs;
  });
  return chosen;
}

}  // namespace efcn
