// tiles of an operand in shared memory, and how they get there
#pragma once

#include "numbers.h"

namespace efcn {

// a matrix product sums over its depth. Along which axis of an operand, rows x depth, numbers follow each other in memory
enum class Along { rows, depth };

// a tile of ROWS x DEPTH, as lines along the axis that memory has
template <class T, int ROWS, int DEPTH, Along ALONG>
struct Staged {
  using Number = T;
  static constexpr Along along = ALONG;
  static constexpr int lines = ALONG == Along::depth ? ROWS : DEPTH;
  static constexpr int length = ALONG == Along::depth ? DEPTH : ROWS;
  // gaps after each line, so that what a warp reads at once lies in different banks: eight lines of 16 bytes (ldmatrix), or four lines of
  // eight words (tests/test_cuda_mapping.py counts)
  static constexpr int gap = (ALONG == Along::rows && sizeof(T) == 4 ? 32 : 16) / static_cast<int>(sizeof(T));
  static constexpr int pitch = length + gap;
  static constexpr int bytes = lines * pitch * static_cast<int>(sizeof(T));
  static_assert(bytes % 16 == 0, "the next tile is aligned too");

  EFCN_HD static int at(int row, int k) { return ALONG == Along::depth ? row * pitch + k : k * pitch + row; }
};

// numbers in memory, of which the first `valid` are the tile's; what lies beyond is 0 there
template <class T>
struct Piece {
  const T* from;
  int valid;
};

// numbers of a piece that are still inside, of `width` that start `left` before the end
EFCN_HD int inside(int left, int width) { return left <= 0 ? 0 : left < width ? left : width; }

// ask for a whole tile, BYTES at a time; source(row, k) is the piece of memory that begins there
template <class S, int BYTES, int THREADS, class Warp, class Source>
EFCN_HD void stage(Warp& warp, char* tile, Source source) {
  using T = typename S::Number;
  constexpr int width = BYTES / static_cast<int>(sizeof(T)), pieces = S::length / width, all = S::lines * pieces;
  static_assert(width >= 1 && S::length % width == 0, "lines are whole pieces");
  constexpr int rounds = (all + THREADS - 1) / THREADS;
  const auto one = [&](int round, int thread) {
    const int piece = round * THREADS + thread;
    if (all % THREADS != 0 && piece >= all) return;
    const int line = piece / pieces, place = piece % pieces * width;
    const int row = S::along == Along::depth ? line : place, k = S::along == Along::depth ? place : line;
    const Piece<T> found = source(row, k);
    warp.template copy<BYTES>(tile + S::at(row, k) * sizeof(T), found.from, found.valid * static_cast<int>(sizeof(T)));
  };
  warp.each([&](auto&, int thread) {
    // what is not copied asynchronously lies in registers meanwhile: grad-weight spilled 568 bytes with all of it at once
    if constexpr (BYTES == 2) {
      EFCN_UNROLL_BY_4
      for (int round = 0; round < rounds; ++round) one(round, thread);
    } else {
      EFCN_UNROLL
      for (int round = 0; round < rounds; ++round) one(round, thread);
    }
  });
}

}  // namespace efcn
