// y = the largest number of each window of x, in images that lie batch-last: a pixel is a row of channels times images, so lanes never
// meet. The gradient is gathered, each pixel from the windows that it is in: nothing is zeroed first, every number is written once
#pragma once

#include "convert.h"

// of a lambda: with `columns` known its loads are plain ones
#define EFCN_INLINE_BODY __attribute__((always_inline))

namespace efcn {
namespace EFCN_ISA {

// one byte for each lane
template <class T>
struct TapBytes {
  typedef uint8_t type __attribute__((vector_size(lanes<T>)));
};

template <class T>
using Taps = Vec<typename IndexOf<T>::type>;

// GCC 12 would convert them one by one, and takes the lanes that a mask leaves nothing of for uninitialised ones without it
template <class T>
EFCN_INLINE Taps<T> widen_taps(const uint8_t* p) {
#if EFCN_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4)
    return (Taps<T>)_mm512_maskz_cvtepu8_epi32(static_cast<__mmask16>(-1), _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return (Taps<T>)_mm512_maskz_cvtepu8_epi64(static_cast<__mmask8>(-1), _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#elif EFCN_VECTOR_BYTES == 32
  if constexpr (sizeof(T) == 4) return (Taps<T>)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  int32_t four;
  __builtin_memcpy(&four, p, sizeof(four));
  return (Taps<T>)_mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
#else
  Taps<T> taps;
  for (int i = 0; i < lanes<T>; ++i) taps[i] = p[i];
  return taps;
#endif
}

template <class T>
EFCN_INLINE Taps<T> load_taps(const uint8_t* p, int64_t count) {
  if (count == lanes<T>) return widen_taps<T>(p);
  uint8_t some[lanes<T>] = {};
  __builtin_memcpy(some, p, static_cast<size_t>(count));
  return widen_taps<T>(some);
}

template <class T>
EFCN_INLINE void store_taps(uint8_t* p, Taps<T> taps, int64_t count) {
  const auto v = __builtin_convertvector(taps, typename TapBytes<T>::type);
  __builtin_memcpy(p, &v, static_cast<size_t>(count));
}

// body(first column, how many) for each vector of a part of a row. A row that is not a whole number of vectors ends with one that overlaps
// its neighbour; one that is shorter than a vector is less than one
template <class T, class Body>
EFCN_INLINE void for_columns(const PoolJob& job, int64_t part, const Body& body) {
  constexpr int L = lanes<T>;
  if (job.columns < L) return body(0, job.columns);
  const int64_t vectors = divide_up(job.columns, L), end = part_start(vectors, job.parts, part + 1);
  for (int64_t v = part_start(vectors, job.parts, part); v < end; ++v) body(v * L + L <= job.columns ? v * L : job.columns - L, L);
}

template <class S>
EFCN_INLINE Vec<Compute<S>> load_columns(const S* p, int64_t count) {
  return count == lanes<Compute<S>> ? load_as(p) : load_some_as(p, count);
}

template <class S>
EFCN_INLINE void store_columns(S* p, Vec<Compute<S>> v, int64_t count) {
  if (count == lanes<Compute<S>>) return store_as(p, v);
  store_some_as(p, v, count);
}

// one tap of a window: its number in the window, the rows that it stands for
template <class S>
struct PoolTap {
  int number;
  const S* row;
  const uint8_t* taps;
};

template <class S>
void max_pool_task(const PoolJob& job, int64_t task) {
  using T = Compute<S>;
  const int64_t part = task / job.out_size[0], i = task % job.out_size[0];
  for (int64_t j = 0; j < job.out_size[1]; ++j) {
    PoolTap<S> found[most_taps];
    int count = 0;
    for (int64_t a = 0; a < job.kernel[0]; ++a) {
      for (int64_t b = 0; b < job.kernel[1]; ++b) {
        const int64_t h = i * job.stride[0] - job.padding[0] + a * job.dilation[0];
        const int64_t w = j * job.stride[1] - job.padding[1] + b * job.dilation[1];
        if (h < 0 || h >= job.size[0] || w < 0 || w >= job.size[1]) continue;
        const S* row = static_cast<const S*>(job.x) + (h * job.size[1] + w) * job.columns;
        found[count++] = {static_cast<int>(a * job.kernel[1] + b), row, nullptr};
      }
    }
    const int64_t to = (i * job.out_size[1] + j) * job.columns;
    for_columns<T>(job, part, [&](int64_t at, int64_t columns) EFCN_INLINE_BODY {
      Vec<T> largest = broadcast(-static_cast<T>(__builtin_inf()));
      Taps<T> taps = Taps<T>{} + (count ? found[0].number : 0);
      for (int t = 0; t < count; ++t) {
        const Vec<T> v = load_columns(found[t].row + at, columns);
        // as torch has it: the first of equal ones, and any that is no number
        const auto taken = (v > largest) | (v != v);
        largest = taken ? v : largest;
        taps = taken ? Taps<T>{} + found[t].number : taps;
      }
      store_columns(static_cast<S*>(job.y) + to + at, largest, columns);
      store_taps<T>(job.taps + to + at, taps, columns);
    });
  }
}

// the windows (outputs) along one axis that pixel `at` is in, ascending, with the tap that it is there
struct Windows {
  int64_t output[most_taps], tap[most_taps];
  int count = 0;

  Windows(const PoolJob& job, int axis, int64_t at) {
    for (int64_t k = job.kernel[axis] - 1; k >= 0; --k) {
      const int64_t start = at + job.padding[axis] - k * job.dilation[axis];
      if (start < 0 || start % job.stride[axis] != 0 || start / job.stride[axis] >= job.out_size[axis]) continue;
      output[count] = start / job.stride[axis];
      tap[count++] = k;
    }
  }
};

// x is the gradient of the pixels, y that of the results
template <class S>
void max_pool_backward_task(const PoolJob& job, int64_t task) {
  using T = Compute<S>;
  const int64_t part = task / job.size[0], h = task % job.size[0];
  const Windows above(job, 0, h);
  for (int64_t w = 0; w < job.size[1]; ++w) {
    const Windows beside(job, 1, w);
    PoolTap<S> found[most_taps];
    int count = 0;
    for (int i = 0; i < above.count; ++i) {
      for (int j = 0; j < beside.count; ++j) {
        const int64_t from = (above.output[i] * job.out_size[1] + beside.output[j]) * job.columns;
        const int64_t number = above.tap[i] * job.kernel[1] + beside.tap[j];
        found[count++] = {static_cast<int>(number), static_cast<const S*>(job.y) + from, job.taps + from};
      }
    }
    S* const to = static_cast<S*>(job.x) + (h * job.size[1] + w) * job.columns;
    for_columns<T>(job, part, [&](int64_t at, int64_t columns) EFCN_INLINE_BODY {
      Vec<T> sum{};
      for (int t = 0; t < count; ++t) {
        const auto taken = load_taps<T>(found[t].taps + at, columns) == found[t].number;
        sum += taken ? load_columns(found[t].row + at, columns) : Vec<T>{};
      }
      store_columns(to + at, sum, columns);
    });
  }
}

}  // namespace EFCN_ISA
}  // namespace efcn
