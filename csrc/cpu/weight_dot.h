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
template <class T, int R, int C>
void dot_tile(const T* const* a, const T* const* b, int64_t batch, T* sums) {
  constexpr int L = lanes<T>;
  constexpr int padded_count = (R * C + L - 1) / L * L;
  Vec<T> acc[padded_count] = {};
  int64_t n = 0;
  for (; n + L <= batch; n += L) {
    Vec<T> col[C];
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) col[c] = load(b[c] + n);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> row = load(a[r] + n);
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
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> row = keep_lanes<T>(load(a[r] + batch - L), mask);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) acc[r * C + c] += row * keep_lanes<T>(load(b[c] + batch - L), mask);
    }
  }
  T out[padded_count];
#pragma GCC unroll 16
  for (int i = 0; i < padded_count; i += L) store(out + i, fold<T>(acc + i));
  for (int i = 0; i < R * C; ++i) sums[i] = out[i];
}

template <class T, int R>
EFCN_INLINE void dot_with_rows(int cols, const T* const* a, const T* const* b, int64_t batch, T* sums) {
  if (cols == 4) return dot_tile<T, R, 4>(a, b, batch, sums);
  if (cols == 3) return dot_tile<T, R, 3>(a, b, batch, sums);
  if (cols == 2) return dot_tile<T, R, 2>(a, b, batch, sums);
  return dot_tile<T, R, 1>(a, b, batch, sums);
}

template <class T>
EFCN_INLINE void dot(int rows, int cols, const T* const* a, const T* const* b, int64_t batch, T* sums) {
  if constexpr (dot_rows >= 4) {
    if (rows == 4) return dot_with_rows<T, 4>(cols, a, b, batch, sums);
    if (rows == 3) return dot_with_rows<T, 3>(cols, a, b, batch, sums);
  }
  if (rows == 2) return dot_with_rows<T, 2>(cols, a, b, batch, sums);
  return dot_with_rows<T, 1>(cols, a, b, batch, sums);
}

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
  const T* gy = static_cast<const T*>(job.gy) + site * job.gy_site;
  for (int64_t col = 0; col < cols; col += dot_cols) {
    const int width = static_cast<int>(cols - col < dot_cols ? cols - col : dot_cols);
    const T* b[dot_cols];
    int64_t at[dot_cols];
    for (int c = 0; c < width; ++c) {
      const int64_t t = first + (col + c) / job.ci, channel = (col + c) % job.ci;
      b[c] = static_cast<const T*>(job.x) + job.pattern.source[t] * job.x_site + channel * job.x_channel;
      at[c] = t * job.co * job.ci + channel;
    }
    for (int64_t row = part_start(bands, job.row_parts, part) * dot_rows; row < row_end; row += dot_rows) {
      const int height = static_cast<int>(row_end - row < dot_rows ? row_end - row : dot_rows);
      const T* a[dot_rows];
      for (int r = 0; r < height; ++r) a[r] = gy + (row + r) * job.gy_channel;
      T sums[dot_rows * dot_cols];
      dot(height, width, a, b, job.batch, sums);
      for (int r = 0; r < height; ++r) {
        for (int c = 0; c < width; ++c) put(sink, at[c] + (row + r) * job.ci, sums + r * width + c, 1);
      }
    }
  }
}

}  // namespace EFCN_ISA
}  // namespace efcn
