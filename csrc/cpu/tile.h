// the register tile that all three passes share
#pragma once

#include "vec.h"

namespace efcn {
namespace EFCN_ISA {

constexpr int tile_rows = EFCN_TILE_ROWS;

// widest tile whose accumulators, operands and one broadcast stay in registers: with 32 registers 6 x 4, which loads 10 times for 24
// multiply-adds. It was 5 to 10 % faster than 8 x 3 (11 loads) on the layers of AlexNet and 15 to 20 % faster than 12 x 2
constexpr int tile_vectors(int rows) {
  const int v = (EFCN_REGISTERS - 1) / (rows + 1);
  return v < 8 ? v : 8;
}

template <class T, class E>
struct MultiplyAdd {
  EFCN_INLINE Vec<T> of(Vec<T> sum, Vec<E> w, Vec<E> x) { return sum + w * x; }
};

// a stretch of the reduction: a[r * a_row + k * a_k] and b[k * b_k + n] for k < length
template <class E>
struct Segment {
  const E* a;
  const E* b;
  int64_t length;
};

// vector v of a row starts at lane v * lanes, the last one at b_last and c_last: a row that is not a whole number of vectors ends with one
// that overlaps its neighbour, whose lanes come out the same
//
// T: what is added up; E: what is multiplied, T itself or several narrower numbers in as many bits
template <class T, class E = T>
struct Tile {
  const Segment<E>* segments;
  int64_t segment_count;
  int64_t a_row, a_k, b_k, b_last;
  T* c;
  int64_t c_row, c_last;
  // start values of the rows; null: go on from what c holds
  const T* init;
  // lanes of the last vector that c has: less than all only where the row is shorter than one vector
  int high;
  // whether c goes past the caches; its rows are whole aligned vectors then
  bool streams = false;
};

// c[r][n] = (init[r] or c[r][n]) + sum over segments and k of a[r][k] * b[k][n], k in order: a lane's result does not depend on
// which tile computed it. Asks for b `Ahead` steps before it is due, which may lie beyond its end
template <class T, class E, int R, int V, int Ahead>
void run_tile(const Tile<T, E>& t) {
  constexpr int L = lanes<T>;
  Vec<T> acc[R][V];
  T* const c = t.c;
  const int64_t c_last = t.c_last, b_last = t.b_last;
  const bool whole = t.high == L;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const T* from = c + r * t.c_row + (v < V - 1 ? v * L : c_last);
      if (t.init) {
        acc[r][v] = broadcast(t.init[r]);
      } else if (v < V - 1 || whole) {
        acc[r][v] = load(from);
      } else {
        acc[r][v] = load_some(from, t.high);
      }
    }
  }
  // c is not read before it is written: without this its lines would arrive only at the stores (grad-weight: 54 -> 65 % of peak)
  if (t.init && !t.streams) {
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) __builtin_prefetch(c + r * t.c_row + v * L, 1);
    }
  }
  const int64_t a_row = t.a_row, a_k = t.a_k, b_k = t.b_k;
  for (int64_t s = 0; s < t.segment_count; ++s) {
    const E* a = t.segments[s].a;
    const E* b = t.segments[s].b;
    for (int64_t k = t.segments[s].length; k > 0; --k) {
      Vec<E> row[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) row[v] = load(b + (v < V - 1 ? v * L : b_last));
      if constexpr (Ahead > 0) {
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) __builtin_prefetch(b + Ahead * b_k + v * L);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vec<E> w = broadcast(a[r * a_row]);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) acc[r][v] = MultiplyAdd<T, E>::of(acc[r][v], w, row[v]);
      }
      a += a_k;
      b += b_k;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      T* to = c + r * t.c_row + (v < V - 1 ? v * L : c_last);
      if (t.streams) {
        stream(to, acc[r][v]);
      } else if (v < V - 1 || whole) {
        store(to, acc[r][v]);
      } else {
        store_some(to, acc[r][v], t.high);
      }
    }
  }
}

template <class T, class E>
using TileFn = void (*)(const Tile<T, E>&);

template <class T, class E, int Ahead, int R>
EFCN_INLINE TileFn<T, E> choose_vectors(int vectors) {
  constexpr int most = tile_vectors(R);
  if constexpr (most >= 8)
    if (vectors == 8) return run_tile<T, E, R, 8, Ahead>;
  if constexpr (most >= 7)
    if (vectors == 7) return run_tile<T, E, R, 7, Ahead>;
  if constexpr (most >= 6)
    if (vectors == 6) return run_tile<T, E, R, 6, Ahead>;
  if constexpr (most >= 5)
    if (vectors == 5) return run_tile<T, E, R, 5, Ahead>;
  if constexpr (most >= 4)
    if (vectors == 4) return run_tile<T, E, R, 4, Ahead>;
  if constexpr (most >= 3)
    if (vectors == 3) return run_tile<T, E, R, 3, Ahead>;
  if constexpr (most >= 2)
    if (vectors == 2) return run_tile<T, E, R, 2, Ahead>;
  return run_tile<T, E, R, 1, Ahead>;
}

template <class T, class E = T, int Ahead = 0>
EFCN_INLINE TileFn<T, E> choose_tile(int rows, int vectors) {
  if constexpr (tile_rows >= 6) {
    if (rows == 6) return choose_vectors<T, E, Ahead, 6>(vectors);
    if (rows == 5) return choose_vectors<T, E, Ahead, 5>(vectors);
  }
  if (rows == 4) return choose_vectors<T, E, Ahead, 4>(vectors);
  if (rows == 3) return choose_vectors<T, E, Ahead, 3>(vectors);
  if (rows == 2) return choose_vectors<T, E, Ahead, 2>(vectors);
  return choose_vectors<T, E, Ahead, 1>(vectors);
}

// rows in bands of nearly equal height, whole bands to each of `parts`
struct Bands {
  int64_t row0, row1, count;

  Bands(int64_t rows, int64_t height, int64_t parts, int64_t part) {
    const int64_t all = divide_up(rows, height), cut = part_start(all, parts, part + 1) * height;
    row0 = part_start(all, parts, part) * height;
    row1 = cut < rows ? cut : rows;
    count = divide_up(row1 - row0, height);
  }
  int64_t start(int64_t band) const { return row0 + part_start(row1 - row0, count, band); }
};

// vectors [first, first + count) of rows of `width` elements as one tile sees them
template <class T>
struct Span {
  // lane of the first vector, and of the last one from there
  int64_t offset, last;
  int high;

  Span(int64_t first, int64_t count, int64_t width) {
    constexpr int64_t L = lanes<T>;
    const bool cut = (first + count) * L > width;
    const int64_t end = cut && width > L ? width - L : (first + count - 1) * L;
    // a single vector moves as a whole
    offset = count == 1 ? end : first * L;
    last = end - offset;
    high = static_cast<int>(width < L ? width : L);
  }
};

}  // namespace EFCN_ISA
}  // namespace efcn
