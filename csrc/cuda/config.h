// a kernel's shape, known when it is compiled
#pragma once

#include "multiply.h"

namespace efcn {

template <Math MATH, bool UNITS, int WM, int WN>
struct MultiplierOf {
  using type = Cores<typename Numbers<MATH>::Stored, typename Numbers<MATH>::Sum, WM, WN>;
};
template <Math MATH, int WM, int WN>
struct MultiplierOf<MATH, true, WM, WN> {
  static_assert(MATH == Math::bf16 || MATH == Math::f16, "what the matrix units take");
  using type = HalfUnits<typename Numbers<MATH>::Stored, WM, WN>;
};
template <int WM, int WN>
struct MultiplierOf<Math::tf32, true, WM, WN> {
  using type = Tf32Units<WM, WN>;
};

// a program's tile of M x N sums over a depth of K a step, by WARPS_M x WARPS_N warps, with STAGES tiles in flight. The operands lie along
// A_ALONG and B_ALONG and are asked for A_BYTES and B_BYTES at a time
template <Math MATH, bool UNITS, int M_, int N_, int K_, int WARPS_M, int WARPS_N, int STAGES_, Along A_ALONG, int A_BYTES, Along B_ALONG,
          int B_BYTES>
struct Config {
  static constexpr Math math = MATH;
  static constexpr bool units = UNITS;
  static constexpr int M = M_, N = N_, K = K_, stages = STAGES_, warps = WARPS_M * WARPS_N, threads = 32 * warps;
  static constexpr int WM = M / WARPS_M, WN = N / WARPS_N;
  static constexpr int a_bytes = A_BYTES, b_bytes = B_BYTES;
  using T = typename Numbers<MATH>::Stored;
  using Sum = typename Numbers<MATH>::Sum;
  using A = Staged<T, M, K, A_ALONG>;
  using B = Staged<T, N, K, B_ALONG>;

  using Multiplier = typename MultiplierOf<MATH, UNITS, WM, WN>::type;

  static_assert(M % WARPS_M == 0 && N % WARPS_N == 0, "warps share the tile evenly");
  static_assert(K % Multiplier::least_k == 0 && K <= threads && M <= 2 * threads && N <= 2 * threads, "whole steps of the multiplier");
  static_assert(threads <= 1024 && stages * (A::bytes + B::bytes) <= (160 << 10), "fits an A100");
};

}  // namespace efcn
