// sums += A tile @ B tile^T for the warps of a program, on the matrix units (mma.sync) or the CUDA cores. Each warp has WM x WN of the sums
#pragma once

#include "operand.h"

namespace efcn {

// the sums of mma.sync: lane = 4 * g + t has the rows g and g + 8 of each fragment of 16 x 8, and the columns 2 t and 2 t + 1
template <int WM, int WN>
struct UnitSums {
  // visit(row, column, sum) of each sum of a lane, within the warp's
  template <class Lane, class Visit>
  EFCN_HD static void each_sum(Lane& lane, int id, Visit visit) {
    EFCN_UNROLL
    for (int i = 0; i < WM / 16; ++i) {
      EFCN_UNROLL
      for (int j = 0; j < WN / 8; ++j) {
        EFCN_UNROLL
        for (int s = 0; s < 4; ++s) visit(i * 16 + s / 2 * 8 + id / 4, j * 8 + id % 4 * 2 + s % 2, lane.sums[i][j][s]);
      }
    }
  }
};

// fragments of mma.sync.m16n8k16, as the PTX manual draws them: lane = 4 * g + t has A's rows g and g + 8, B's column g, the sums' columns
// 2 t and 2 t + 1
template <class T, int WM, int WN>
struct HalfUnits : UnitSums<WM, WN> {
  static constexpr int least_k = 16;
  static_assert(WM % 16 == 0 && WN % 16 == 0, "whole fragments");
  struct Lane {
    float sums[WM / 16][WN / 8][4];
    uint32_t a[WM / 16][4];
    // two fragments each
    uint32_t b[WN / 16][4];
  };

  template <class A, class B, int K, class Warp>
  EFCN_HD static void multiply(Warp& warp, const char* a, const char* b, int row, int column) {
    EFCN_UNROLL
    for (int k = 0; k < K; k += 16) {
      EFCN_UNROLL
      for (int i = 0; i < WM / 16; ++i) {
        warp.template load_matrices<A::along == Along::rows>(
            [&](int lane) { return a + place<A>(row + i * 16 + (lane >> 3 & 1) * 8, k + (lane >> 4) * 8, lane & 7) * sizeof(T); },
            [&](Lane& lane) -> uint32_t (&)[4] { return lane.a[i]; });
      }
      EFCN_UNROLL
      for (int j = 0; j < WN / 16; ++j) {
        warp.template load_matrices<B::along == Along::rows>(
            [&](int lane) { return b + place<B>(column + j * 16 + (lane >> 4) * 8, k + (lane >> 3 & 1) * 8, lane & 7) * sizeof(T); },
            [&](Lane& lane) -> uint32_t (&)[4] { return lane.b[j]; });
      }
      EFCN_UNROLL
      for (int i = 0; i < WM / 16; ++i) {
        EFCN_UNROLL
        for (int j = 0; j < WN / 8; ++j) {
          warp.template multiply<T>([&](Lane& lane) -> float (&)[4] { return lane.sums[i][j]; },
                                    [&](Lane& lane) -> uint32_t (&)[4] { return lane.a[i]; },
                                    [&](Lane& lane) -> uint32_t* { return lane.b[j / 2] + j % 2 * 2; });
        }
      }
    }
  }

 private:
  // line `line` of the 8 x 8 numbers from (row, k) on
  template <class S>
  EFCN_HD static int place(int row, int k, int line) {
    return S::along == Along::depth ? S::at(row + line, k) : S::at(row, k + line);
  }
};

// mma.sync.m16n8k8 of float32 rounded to TF32: lane = 4 * g + t has A's rows g and g + 8 and columns t and t + 4
template <int WM, int WN>
struct Tf32Units : UnitSums<WM, WN> {
  static constexpr int least_k = 8;
  static_assert(WM % 16 == 0 && WN % 8 == 0, "whole fragments");
  struct Lane {
    float sums[WM / 16][WN / 8][4];
    uint32_t a[WM / 16][4];
    uint32_t b[WN / 8][2];
  };

  template <class A, class B, int K, class Warp>
  EFCN_HD static void multiply(Warp& warp, const char* a, const char* b, int row, int column) {
    const float *rows = reinterpret_cast<const float*>(a), *columns = reinterpret_cast<const float*>(b);
    EFCN_UNROLL
    for (int k = 0; k < K; k += 8) {
      warp.each([&](Lane& lane, int thread) {
        const int g = thread % 32 / 4, t = thread % 4;
        EFCN_UNROLL
        for (int i = 0; i < WM / 16; ++i) {
          EFCN_UNROLL
          for (int s = 0; s < 4; ++s) lane.a[i][s] = to_tf32(warp.read(rows + A::at(row + i * 16 + s % 2 * 8 + g, k + s / 2 * 4 + t)));
        }
        EFCN_UNROLL
        for (int j = 0; j < WN / 8; ++j) {
          EFCN_UNROLL
          for (int s = 0; s < 2; ++s) lane.b[j][s] = to_tf32(warp.read(columns + B::at(column + j * 8 + g, k + s * 4 + t)));
        }
      });
      EFCN_UNROLL
      for (int i = 0; i < WM / 16; ++i) {
        EFCN_UNROLL
        for (int j = 0; j < WN / 8; ++j) {
          warp.template multiply<float>([&](Lane& lane) -> float (&)[4] { return lane.sums[i][j]; },
                                        [&](Lane& lane) -> uint32_t (&)[4] { return lane.a[i]; },
                                        [&](Lane& lane) -> uint32_t* { return lane.b[j]; });
        }
      }
    }
  }
};

// the CUDA cores: a warp is 8 x 4 lanes, and a lane has every eighth row and every fourth column
template <class T, class Sum, int WM, int WN>
struct Cores {
  static constexpr int least_k = 1;
  static_assert(WM % 8 == 0 && WN % 4 == 0, "the same number of sums for all lanes");
  struct Lane {
    Sum sums[WM / 8][WN / 4];
  };

  template <class A, class B, int K, class Warp>
  EFCN_HD static void multiply(Warp& warp, const char* a, const char* b, int row, int column) {
    const T *rows = reinterpret_cast<const T*>(a), *columns = reinterpret_cast<const T*>(b);
    warp.each([&](Lane& lane, int thread) {
      const int m = row + thread % 32 / 4, n = column + thread % 4;
      EFCN_UNROLL
      for (int k = 0; k < K; ++k) {
        Sum left[WM / 8], right[WN / 4];
        EFCN_UNROLL
        for (int i = 0; i < WM / 8; ++i) left[i] = wide(warp.read(rows + A::at(m + i * 8, k)));
        EFCN_UNROLL
        for (int j = 0; j < WN / 4; ++j) right[j] = wide(warp.read(columns + B::at(n + j * 4, k)));
        EFCN_UNROLL
        for (int i = 0; i < WM / 8; ++i) {
          EFCN_UNROLL
          for (int j = 0; j < WN / 4; ++j) lane.sums[i][j] += left[i] * right[j];
        }
      }
    });
  }

  template <class Visit>
  EFCN_HD static void each_sum(Lane& lane, int id, Visit visit) {
    EFCN_UNROLL
    for (int i = 0; i < WM / 8; ++i) {
      EFCN_UNROLL
      for (int j = 0; j < WN / 4; ++j) visit(i * 8 + id / 4, j * 4 + id % 4, lane.sums[i][j]);
    }
  }
};

}  // namespace efcn
