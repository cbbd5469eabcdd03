// vectors of one instruction set, written with compiler vector extensions so that one source serves all
#pragma once

#include "problem.h"

#if EFCN_VECTOR_BYTES >= 32
#include <immintrin.h>
#endif

#ifndef EFCN_ISA
#error "compile through isa_*.cpp: EFCN_ISA, EFCN_VECTOR_BYTES, EFCN_REGISTERS and EFCN_TILE_ROWS are set there"
#endif

// forced: a function left out of line would pass vectors through memory
#define EFCN_INLINE static inline __attribute__((always_inline))

namespace efcn {
namespace EFCN_ISA {

template <class T>
constexpr int lanes = EFCN_VECTOR_BYTES / static_cast<int>(sizeof(T));

template <class T, int Bytes>
struct VecOf {
  typedef T type __attribute__((vector_size(Bytes)));
  typedef T loose __attribute__((vector_size(Bytes), aligned(sizeof(T)), may_alias));
};

template <class T>
using Vec = typename VecOf<T, EFCN_VECTOR_BYTES>::type;

template <class T>
EFCN_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename VecOf<T, EFCN_VECTOR_BYTES>::loose*>(p);
}

template <class T>
EFCN_INLINE void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename VecOf<T, EFCN_VECTOR_BYTES>::loose*>(p) = v;
}

template <class T>
EFCN_INLINE Vec<T> broadcast(T s) {
  return s - Vec<T>{};
}

// past the caches where that is possible: p is aligned to whole vectors, and fence() follows the last one
template <class T>
EFCN_INLINE void stream(T* p, Vec<T> v) {
#if EFCN_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) {
    _mm512_stream_ps(p, v);
  } else {
    _mm512_stream_pd(p, v);
  }
#else
  store(p, v);
#endif
}

EFCN_INLINE void fence() {
#if EFCN_VECTOR_BYTES == 64
  _mm_sfence();
#endif
}

// the first `count` lanes
template <class T>
EFCN_INLINE void store_some(T* p, Vec<T> v, int64_t count) {
#if EFCN_VECTOR_BYTES == 64
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_ps(p, mask, v);
  } else {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), v);
  }
#else
  T buffer[lanes<T>];
  store(buffer, v);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
#endif
}

template <class T>
EFCN_INLINE Vec<T> load_some(const T* p, int64_t count) {
#if EFCN_VECTOR_BYTES == 64
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (sizeof(T) == 4) {
    return _mm512_maskz_loadu_ps(mask, p);
  } else {
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), p);
  }
#else
  T buffer[lanes<T>] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
  return load(buffer);
#endif
}

template <int... I>
struct Seq {};
template <int N, int... I>
struct MakeSeq : MakeSeq<N - 1, N - 1, I...> {};
template <int... I>
struct MakeSeq<0, I...> {
  using type = Seq<I...>;
};

template <class T>
struct IndexOf {
  using type = int32_t;
};
template <>
struct IndexOf<double> {
  using type = int64_t;
};

// shuffle with constant indices f(0), f(1), ... into the concatenation of a and b
#if defined(__clang__) || __GNUC__ >= 12
template <class T, class F, int... I>
EFCN_INLINE Vec<T> shuffle(Vec<T> a, Vec<T> b, Seq<I...>) {
  return __builtin_shufflevector(a, b, F::at(I)...);
}
#else
template <class T, class F, int... I>
EFCN_INLINE Vec<T> shuffle(Vec<T> a, Vec<T> b, Seq<I...>) {
  return __builtin_shuffle(a, b, Vec<typename IndexOf<T>::type>{F::at(I)...});
}
#endif

template <int L, int D>
struct SwapLow {
  static constexpr int at(int i) { return (i & D) ? L + i - D : i; }
};
template <int L, int D>
struct SwapHigh {
  static constexpr int at(int i) { return (i & D) ? L + i : i + D; }
};

// one butterfly stage of the transposition, then the ones of smaller distance
template <class T, int D>
EFCN_INLINE void transpose_stages(Vec<T>* v) {
  constexpr int L = lanes<T>;
  using All = typename MakeSeq<L>::type;
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) {
    if (i & D) continue;
    Vec<T> low = shuffle<T, SwapLow<L, D>>(v[i], v[i + D], All{});
    v[i + D] = shuffle<T, SwapHigh<L, D>>(v[i], v[i + D], All{});
    v[i] = low;
  }
  if constexpr (D > 1) transpose_stages<T, D / 2>(v);
}

// v[i][j] -> v[j][i] for a square of lanes x lanes
template <class T>
EFCN_INLINE void transpose(Vec<T>* v) {
  transpose_stages<T, lanes<T> / 2>(v);
}

template <int L, int D, int Half>
struct FoldIndex {
  static constexpr int at(int i) {
    const int group = i / D, groups = L / D;
    const int from_b = group >= groups / 2;
    return from_b * L + (group % (groups / 2)) * 2 * D + i % D + Half * D;
  }
};

template <class T, int D>
EFCN_INLINE void fold_stages(Vec<T>* v) {
  constexpr int L = lanes<T>;
  using All = typename MakeSeq<L>::type;
#pragma GCC unroll 16
  for (int i = 0; i < D; ++i) {
    v[i] = shuffle<T, FoldIndex<L, D, 0>>(v[2 * i], v[2 * i + 1], All{}) + shuffle<T, FoldIndex<L, D, 1>>(v[2 * i], v[2 * i + 1], All{});
  }
  if constexpr (D > 1) fold_stages<T, D / 2>(v);
}

// horizontal sums of `lanes` vectors at once: lane i of the result is the sum of v[i]
template <class T>
EFCN_INLINE Vec<T> fold(Vec<T>* v) {
  fold_stages<T, lanes<T> / 2>(v);
  return v[0];
}

}  // namespace EFCN_ISA
}  // namespace efcn
