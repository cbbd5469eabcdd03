// storage types <-> compute types, by integer operations alone, so that every instruction set has them
#pragma once

#include "dtype.h"
#include "vec.h"

namespace efcn {
namespace EFCN_ISA {

typedef uint32_t Bits __attribute__((vector_size(EFCN_VECTOR_BYTES)));
typedef int32_t SignedBits __attribute__((vector_size(EFCN_VECTOR_BYTES)));
typedef uint16_t HalfBits __attribute__((vector_size(EFCN_VECTOR_BYTES / 2)));

EFCN_INLINE Bits pick(SignedBits mask, Bits yes, Bits no) { return ((Bits)mask & yes) | (~(Bits)mask & no); }

EFCN_INLINE HalfBits load_half(const uint16_t* p) {
  HalfBits h;
  __builtin_memcpy(&h, p, sizeof(h));
  return h;
}

// the first `count` numbers, zeros behind them
EFCN_INLINE HalfBits load_half_some(const uint16_t* p, int64_t count) {
#if EFCN_VECTOR_BYTES == 64
  return (HalfBits)_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << count) - 1), p);
#else
  uint16_t buffer[lanes<float>] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
  return load_half(buffer);
#endif
}

EFCN_INLINE void store_half(uint16_t* p, HalfBits h) { __builtin_memcpy(p, &h, sizeof(h)); }

EFCN_INLINE void store_half_some(uint16_t* p, HalfBits h, int64_t count) {
#if EFCN_VECTOR_BYTES == 64
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1u << count) - 1), (__m256i)h);
#else
  uint16_t buffer[lanes<float>];
  store_half(buffer, h);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
#endif
}

EFCN_INLINE Vec<float> decode(HalfBits half, bf16) { return (Vec<float>)(__builtin_convertvector(half, Bits) << 16); }

EFCN_INLINE Vec<float> decode(HalfBits half, f16) {
  const Bits h = __builtin_convertvector(half, Bits);
  const Bits magnitude = (h & 0x7fffu) << 13;
  // exponent bias 127 - 15; a denormal is a fixed-point number of unit 2^-24
  const Bits normal = magnitude + (112u << 23);
  const Vec<float> fixed = __builtin_convertvector((SignedBits)(h & 0x3ffu), Vec<float>);
  const Bits denormal = (Bits)(fixed * 5.9604644775390625e-8f);
  Bits bits = pick(magnitude < (1u << 23), denormal, normal);
  bits = pick(magnitude >= (31u << 23), magnitude | 0x7f800000u, bits);
  return (Vec<float>)(bits | (h & 0x8000u) << 16);
}

EFCN_INLINE HalfBits encode(Vec<float> v, bf16) {
  const Bits bits = (Bits)v;
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  // the carry of the rounding would turn some NaN into infinity: keep it, quiet
  const Bits nan = (bits >> 16) | 0x40u;
  return __builtin_convertvector(pick((bits & 0x7fffffffu) > 0x7f800000u, nan, rounded), HalfBits);
}

EFCN_INLINE HalfBits encode(Vec<float> v, f16) {
  const Bits bits = (Bits)v;
  const Bits magnitude = bits & 0x7fffffffu;
  // normal result: round to nearest even at bit 13 and shift the exponent bias; the carry may reach infinity, rightly
  const Bits normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // denormal result: adding 0.5 puts its last bit (2^-24) at the last bit of the sum, rounded by the addition itself
  const Bits denormal = (Bits)((Vec<float>)magnitude + 0.5f) - 0x3f000000u;
  Bits result = pick(magnitude < (113u << 23), denormal, normal);
  result = pick(magnitude >= (143u << 23), Bits{} + 0x7c00u, result);
  result = pick(magnitude > 0x7f800000u, 0x7e00u | ((magnitude >> 13) & 0x3ffu), result);
  return __builtin_convertvector(result | (bits >> 16 & 0x8000u), HalfBits);
}

// a vector of numbers of a storage type in the compute type
template <class S>
EFCN_INLINE Vec<Compute<S>> load_as(const S* p) {
  if constexpr (sizeof(S) == sizeof(Compute<S>)) {
    return load(p);
  } else {
    return decode(load_half(&p->bits), S{});
  }
}

template <class S>
EFCN_INLINE Vec<Compute<S>> load_some_as(const S* p, int64_t count) {
  if constexpr (sizeof(S) == sizeof(Compute<S>)) {
    return load_some(p, count);
  } else {
    return decode(load_half_some(&p->bits, count), S{});
  }
}

template <class S>
EFCN_INLINE void store_as(S* p, Vec<Compute<S>> v) {
  if constexpr (sizeof(S) == sizeof(Compute<S>)) {
    store(p, v);
  } else {
    store_half(&p->bits, encode(v, S{}));
  }
}

template <class S>
EFCN_INLINE void store_some_as(S* p, Vec<Compute<S>> v, int64_t count) {
  if constexpr (sizeof(S) == sizeof(Compute<S>)) {
    store_some(p, v, count);
  } else {
    store_half_some(&p->bits, encode(v, S{}), count);
  }
}

template <class S>
EFCN_INLINE Compute<S> widen_one(S s) {
  if constexpr (sizeof(S) == sizeof(Compute<S>)) {
    return s;
  } else {
    return load_some_as(&s, 1)[0];
  }
}

// `count` values, any count: full vectors first
template <class S>
EFCN_INLINE void widen(Compute<S>* to, const S* from, int64_t count) {
  constexpr int L = lanes<Compute<S>>;
  int64_t i = 0;
  for (; i + L <= count; i += L) store(to + i, load_as(from + i));
  if (i < count) store_some(to + i, load_some_as(from + i, count - i), count - i);
}

template <class S>
EFCN_INLINE void narrow(S* to, const Compute<S>* from, int64_t count) {
  constexpr int L = lanes<Compute<S>>;
  int64_t i = 0;
  for (; i + L <= count; i += L) store_as(to + i, load(from + i));
  if (i < count) store_some_as(to + i, load_some(from + i, count - i), count - i);
}

}  // namespace EFCN_ISA
}  // namespace efcn
