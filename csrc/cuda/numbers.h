// how numbers lie in memory and what sums of their products are kept in. Plain C++: g++ compiles all of it for the tests, nvcc for the chip
#pragma once

#include <cstdint>
#include <cstring>

#include "job.h"

#ifdef __CUDACC__
#define EFCN_HD __host__ __device__ __forceinline__
#else
#define EFCN_HD inline
#endif
// arrays of a lane are registers only if every index is known
#ifdef __CUDA_ARCH__
#define EFCN_UNROLL _Pragma("unroll")
#define EFCN_UNROLL_BY_4 _Pragma("unroll 4")
#else
#define EFCN_UNROLL
#define EFCN_UNROLL_BY_4
#endif

namespace efcn {

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

template <class To, class From>
EFCN_HD To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits, so the same size");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

EFCN_HD float wide(float x) { return x; }
EFCN_HD double wide(double x) { return x; }
EFCN_HD float wide(Bf16 x) { return bits_as<float>(static_cast<uint32_t>(x.bits) << 16); }
EFCN_HD float wide(F16 x) {
#ifdef __CUDA_ARCH__
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
  return result;
#else
  return static_cast<float>(bits_as<_Float16>(x.bits));
#endif
}

// rounded to nearest, ties to even
template <class T>
EFCN_HD T narrow(float x);
template <class T>
EFCN_HD T narrow(double x);
template <>
EFCN_HD float narrow(float x) {
  return x;
}
template <>
EFCN_HD double narrow(double x) {
  return x;
}
template <>
EFCN_HD F16 narrow(float x) {
#ifdef __CUDA_ARCH__
  F16 result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
  return result;
#else
  return {bits_as<uint16_t>(static_cast<_Float16>(x))};
#endif
}
template <>
EFCN_HD Bf16 narrow(float x) {
#ifdef __CUDA_ARCH__
  Bf16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
  return result;
#else
  const uint32_t bits = bits_as<uint32_t>(x);
  if (x != x) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
#endif
}

// to what the matrix units read of a float32: 10 bits of mantissa, nearest, ties away from zero
EFCN_HD uint32_t to_tf32(float x) {
#ifdef __CUDA_ARCH__
  uint32_t result;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(result) : "f"(x));
  return result;
#else
  const uint32_t bits = bits_as<uint32_t>(x);
  if ((bits & 0x7f800000) == 0x7f800000) return bits;
  return (bits + 0x1000) & ~0x1fffu;
#endif
}

template <Math MATH>
struct Numbers {
  using Stored = float;
  using Sum = float;
};
template <>
struct Numbers<Math::f64> {
  using Stored = double;
  using Sum = double;
};
template <>
struct Numbers<Math::bf16> {
  using Stored = Bf16;
  using Sum = float;
};
template <>
struct Numbers<Math::f16> {
  using Stored = F16;
  using Sum = float;
};

}  // namespace efcn
