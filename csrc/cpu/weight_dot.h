// gvalues[block][co][ci] = sum over n of gy[p][co][n] * x[q][ci][n], as dot products along the batch: for blocks too narrow to fill
// the lanes with channels
#pragma once

#include "sgd.h"

namespace efcn {
namespace EFCN_ISA {

// rows x cols accumulators: as many as `fold` takes at once
constexpr int dot_rows = EFCN_REGISTERS >= 32 ? 4 : 2;
constexpr int dot_cols = 4;

template <class T>
EFCN_INLINE Vec<T> keep_lanes(Vec<T> v, Vec<typename IndexOf<T>::type> mask) {
  return (Vec<T>)((Vec<typename IndexOf<T>::type>)v & mask);
}

// sums[r * C + c] = sum over n of a[r][n] * b[c][n]
template <class S, int R, int C>
void dot_tile(const S* const* a, const S* const* b, int64_t batch, Compute<S>* sums) {
  using T = Compute<S>;
  constexpr int L = lanes<T>;
  constexpr int padded_count = (R * C + L - 1) / L * L;
  Vec<T> acc[padded_count] = {};
  int64_t n = 0;
  for (; n + L <= batch; n += L) {
    Vec<T> col[C];
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) col[c] = load_as(b[c] + n);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> row = load_as(a[r] + n);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) acc[r * C + c] += row * col[c];
    }
  }
  if (n < batch) {
    using Index = typename IndexOf<T>::type;
    // a vector that ends with the batch, without the lanes that were summed already
    Vec<Index> mask;
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) mask[i] = i >= L - (batch - n) ? -1 : 0;
    const auto rest = [&](const S* p) { return batch < L ? load_some_as(p, batch) : keep_lanes<T>(load_as(p + batch - L), mask); };
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> row = rest(a[r]);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) acc[r * C + c] += row * rest(b[c]);
    }
  }
  T out[padded_count];
#pragma GCC unroll 16
  for (int i = 0; i < padded_count; i += L) store(out + i, fold<T>(acc + i));
  for (int i = 0; i < R * C; ++i) sums[i] = out[i];
}

template <class S, int R>
EFCN_INLINE void dot_with_rows(int cols, const S* const* a, const S* const* b, int64_t batch, Compute<S>* sums) {
  if (cols == 4) return dot_tile<S, R, 4>(a, b, batch, sums);
  if (cols == 3) return dot_tile<S, R, 3>(a, b, batch, sums);
  if (cols == 2) return dot_tile<S, R, 2>(a, b, batch, sums);
  return dot_tile<S, R, 1>(a, b, batch, sums);
}

template <class S>
EFCN_INLINE void dot(int rows, int cols, const S* const* a, const S* const* b, int64_t batch, Compute<S>* sums) {
  if constexpr (dot_rows >= 4) {
    if (rows == 4) return dot_with_rows<S, 4>(cols, a, b, batch, sums);
    if (rows == 3) return dot_with_rows<S, 3>(cols, a, b, batch, sums);
  }
  if (rows == 2) return dot_with_rows<S, 2>(cols, a, b, batch, sums);
  return dot_with_rows<S, 1>(cols, a, b, batch, sums);
}

static size_t weight_dot_scratch(const WeightJob&) { return 0; }

// the columns of an output site are the (block, ci) pairs of its row of the pattern
template <class S>
void weight_dot_task(const WeightJob& job, int64_t task, void*) {
  using T = Compute<S>;
  const int64_t site = task / job.row_parts, part = task % job.row_parts;
  const int64_t first = job.pattern.start[site];
  const int64_t cols = (job.pattern.start[site + 1] - first) * job.ci;
  const int64_t bands = divide_up(job.co, dot_rows);
  const int64_t band1 = part_start(bands, job.row_parts, part + 1);
  const int64_t row_end = band1 * dot_rows < job.co ? band1 * dot_rows : job.co;
  const WeightSink<S> sink(job);
  const S* gy = static_cast<const S*>(job.gy) + site * job.gy_site;
  for (int64_t col = 0; col < cols; col += dot_cols) {
    const int width = static_cast<int>(cols - col < dot_cols ? cols - col : dot_cols);
    const S* b[dot_cols];
    int64_t at[dot_cols];
    for (int c = 0; c < width; ++c) {
      const int64_t t = first + (col + c) / job.ci, channel = (col + c) % job.ci;
      b[c] = static_cast<const S*>(job.x) + job.pattern.source[t] * job.x_site + channel * job.x_channel;
      at[c] = t * job.co * job.ci + channel;
    }
    for (int64_t row = part_start(bands, job.row_parts, part) * dot_rows; row < row_end; row += dot_rows) {
      const int height = static_cast<int>(row_end - row < dot_rows ? row_end - row : dot_rows);
      const S* a[dot_rows];
      for (int r = 0; r < height; ++r) a[r] = gy + (row + r) * job.gy_channel;
      T sums[dot_rows * dot_cols];
      dot<S>(height, width, a, b, job.batch, sums);
      for (int r = 0; r < height; ++r) {
        for (int c = 0; c < width; ++c) put(sink, at[c] + (row + r) * job.ci, sums + r * width + c, 1);
      }
    }
  }
}

}  // namespace EFCN_ISA
}  // namespace efcn
