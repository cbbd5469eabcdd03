// the register tile that all three passes share
#pragma once

#include "vec.h"

namespace efcn {
namespace EFCN_ISA {

constexpr int tile_rows = EFCN_TILE_ROWS;

// widest tile whose accumulators, operands and one broadcast stay in registers. Alone, on operands in the second-level cache, 8 x 3 with 32
// registers reached 82 to 95 % of the peak (AVX-512); the others follow from the count and were not compared one by one
constexpr int tile_vectors(int rows) {
  const int v = (EFCN_REGISTERS - 1) / (rows + 1);
  return v < 8 ? v : 8;
}

// a stretch of the reduction: a[r * a_row + k * a_k] and b[k * b_k + n] for k < length
template <class T>
struct Segment {
  const T* a;
  const T* b;
  int64_t length;
};

template <class T>
struct Tile {
  const Segment<T>* segments;
  int64_t segment_count;
  int64_t a_row, a_k, b_k;
  // start of the lanes within each row of b and c
  int64_t offset;
  T* c;
  int64_t c_row;
  // start values of the rows; null: go on from what c holds
  const T* init;
  // stored to c: lanes from low of the first vector to high of the last
  int low, high;
};

// c[r][n] = (init[r] or c[r][n]) + sum over segments and k of a[r][k] * b[k][n], k in order: a lane's result does not depend on
// which tile computed it
template <class T, int R, int V>
void run_tile(const Tile<T>& t) {
  constexpr int L = lanes<T>;
  Vec<T> acc[R][V];
  T* const c = t.c + t.offset;
  const bool all_first = t.low == 0, all_last = t.high == L;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      if (t.init) {
        acc[r][v] = broadcast(t.init[r]);
      } else if (v < V - 1 || all_last) {
        acc[r][v] = load(c + r * t.c_row + v * L);
      } else {
        acc[r][v] = load_some(c + r * t.c_row + v * L, 0, t.high);
      }
    }
  }
  // c is not read before it is written: without this its lines would arrive only at the stores (grad-weight: 54 -> 65 % of peak)
  if (t.init) {
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) __builtin_prefetch(c + r * t.c_row + v * L, 1);
    }
  }
  const int64_t a_row = t.a_row, a_k = t.a_k, b_k = t.b_k;
  for (int64_t s = 0; s < t.segment_count; ++s) {
    const T* a = t.segments[s].a;
    const T* b = t.segments[s].b + t.offset;
    for (int64_t k = t.segments[s].length; k > 0; --k) {
      Vec<T> row[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) row[v] = load(b + v * L);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vec<T> w = broadcast(a[r * a_row]);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) acc[r][v] += w * row[v];
      }
      a += a_k;
      b += b_k;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      T* to = c + r * t.c_row + v * L;
      if ((v > 0 || all_first) && (v < V - 1 || all_last)) {
        store(to, acc[r][v]);
      } else {
        store_some(to, acc[r][v], v == 0 ? t.low : 0, v == V - 1 ? t.high : L);
      }
    }
  }
}

template <class T>
using TileFn = void (*)(const Tile<T>&);

template <class T, int R>
EFCN_INLINE TileFn<T> choose_vectors(int vectors) {
  constexpr int most = tile_vectors(R);
  if constexpr (most >= 8)
    if (vectors == 8) return run_tile<T, R, 8>;
  if constexpr (most >= 7)
    if (vectors == 7) return run_tile<T, R, 7>;
  if constexpr (most >= 6)
    if (vectors == 6) return run_tile<T, R, 6>;
  if constexpr (most >= 5)
    if (vectors == 5) return run_tile<T, R, 5>;
  if constexpr (most >= 4)
    if (vectors == 4) return run_tile<T, R, 4>;
  if constexpr (most >= 3)
    if (vectors == 3) return run_tile<T, R, 3>;
  if constexpr (most >= 2)
    if (vectors == 2) return run_tile<T, R, 2>;
  return run_tile<T, R, 1>;
}

template <class T>
EFCN_INLINE TileFn<T> choose_tile(int rows, int vectors) {
  if constexpr (tile_rows >= 8) {
    if (rows == 8) return choose_vectors<T, 8>(vectors);
    if (rows == 7) return choose_vectors<T, 7>(vectors);
    if (rows == 6) return choose_vectors<T, 6>(vectors);
    if (rows == 5) return choose_vectors<T, 5>(vectors);
  }
  if (rows == 4) return choose_vectors<T, 4>(vectors);
  if (rows == 3) return choose_vectors<T, 3>(vectors);
  if (rows == 2) return choose_vectors<T, 2>(vectors);
  return choose_vectors<T, 1>(vectors);
}

// one band of rows over `vectors` vectors from lane `first`, in tiles of nearly equal width; before(i, tiles) runs before tile i.
// Lanes beyond the last are met in one of two ways: `high` cuts the last vector, for rows that are padded; `over` lanes too many make the
// last tile start earlier and not store what its neighbour has computed, for rows that are not
template <class T, class Before>
EFCN_INLINE void run_band(Tile<T>& t, int rows, int64_t vectors, int64_t first, int high, int over, const Before& before) {
  int64_t tiles = divide_up(vectors, tile_vectors(rows));
  // a row shorter than its tile: vectors one by one
  if (first + part_start(vectors, tiles, tiles - 1) * lanes<T> < over) tiles = vectors;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t from = part_start(vectors, tiles, i), to = part_start(vectors, tiles, i + 1);
    const bool last = i + 1 == tiles;
    before(i, tiles);
    t.low = last ? over : 0;
    t.high = last ? high : lanes<T>;
    t.offset = first + from * lanes<T> - t.low;
    choose_tile<T>(rows, static_cast<int>(to - from))(t);
  }
}

}  // namespace EFCN_ISA
}  // namespace efcn
