// two bfloat16 numbers that are multiplied and added up together, and how they get side by side; product_pairs.h and weight_pairs.h share
// it
#pragma once

#include <immintrin.h>

#include "convert.h"

namespace efcn {
namespace EFCN_ISA {

using Pair = uint32_t;

// lane i < count: a[i] below, b[i] above; null stands for zeros
EFCN_INLINE Bits load_pairs(const bf16* a, const bf16* b, int64_t count) {
  if (count > lanes<float>) count = lanes<float>;
  const HalfBits low = a ? load_half_some(&a->bits, count) : HalfBits{}, high = b ? load_half_some(&b->bits, count) : HalfBits{};
  return __builtin_convertvector(low, Bits) | __builtin_convertvector(high, Bits) << 16;
}

typedef uint16_t Words __attribute__((vector_size(EFCN_VECTOR_BYTES)));

template <class F, int... I>
EFCN_INLINE Words interleave(Words a, Words b, Seq<I...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, F::at(I)...);
#else
  return __builtin_shuffle(a, b, Words{F::at(I)...});
#endif
}

EFCN_INLINE void store_pairs(Pair* to, Bits v) { _mm512_storeu_si512(to, (__m512i)v); }

template <int First>
struct Interleave {
  static constexpr int at(int i) { return First + i / 2 + i % 2 * 32; }
};

// two vectors of pairs of a[i] below, b[i] above
EFCN_INLINE void store_two_pairs(Pair* to, const bf16* a, const bf16* b) {
  const auto low = (Words)_mm512_loadu_si512(a), high = (Words)_mm512_loadu_si512(b);
  using All = typename MakeSeq<32>::type;
  store_pairs(to, (Bits)interleave<Interleave<0>>(low, high, All{}));
  store_pairs(to + lanes<float>, (Bits)interleave<Interleave<16>>(low, high, All{}));
}

}  // namespace EFCN_ISA
}  // namespace efcn
