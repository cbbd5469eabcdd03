// gvalues[block][co][ci] = sum over n of gy[p][co][n] * x[q][ci][n], as outer products: x of one site is transposed once, so that
// lanes run over ci and nothing is summed across lanes
#pragma once

#include "convert.h"
#include "tile.h"

namespace efcn {
namespace EFCN_ISA {

static int64_t padded(int64_t count, int64_t multiple) { return divide_up(count, multiple) * multiple; }

// to[n][pitch] = from[ci][n], zero where ci is padding; the last tile overlaps its neighbour
template <class T>
EFCN_INLINE void transpose_site(T* to, int64_t pitch, const T* from, int64_t from_row, int64_t ci, int64_t batch) {
  constexpr int L = lanes<T>;
  for (int64_t c = 0; c < ci; c += L) {
    for (int64_t n = 0; n < batch; n += L) {
      const int64_t start = n + L <= batch || batch < L ? n : batch - L;
      Vec<T> v[L];
      for (int i = 0; i < L; ++i) v[i] = c + i < ci ? load(from + (c + i) * from_row + start) : Vec<T>{};
      transpose<T>(v);
      for (int i = 0; i < L; ++i) store(to + (start + i) * pitch + c, v[i]);
    }
  }
}

static size_t weight_outer_scratch(const WeightJob& job) {
  // one vector of floats is the most lanes that any type has
  const int64_t most = lanes<float>;
  const int64_t batch = job.batch > most ? job.batch : most;
  return static_cast<size_t>((batch + tile_rows) * padded(job.ci, most)) * sizeof(double);
}

// one band of rows of c over its whole width, in tiles of nearly equal width
template <class T>
EFCN_INLINE void run_band(Tile<T>& tile, Segment<T>& segment, int rows, const T* b, T* c, int64_t width) {
  const int64_t vectors = divide_up(width, lanes<T>), tiles = divide_up(vectors, tile_vectors(rows));
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t from = part_start(vectors, tiles, i), count = part_start(vectors, tiles, i + 1) - from;
    const Span<T> span(from, count, width);
    segment.b = b + span.offset;
    tile.c = c + span.offset;
    tile.b_last = tile.c_last = span.last;
    tile.high = span.high;
    choose_tile<T>(rows, static_cast<int>(count))(tile);
  }
}

template <class S>
void weight_outer_task(const WeightJob& job, int64_t task, void* memory) {
  using T = Compute<S>;
  constexpr int L = lanes<T>;
  constexpr bool convert = sizeof(S) != sizeof(T);
  const int64_t site = task / job.row_parts, part = task % job.row_parts;
  const int64_t start = job.pattern.start[site], stop = job.pattern.start[site + 1];
  if (start == stop) return;

  const int64_t bands = divide_up(job.co, tile_rows);
  const int64_t row0 = part_start(bands, job.row_parts, part) * tile_rows;
  const int64_t row_cut = part_start(bands, job.row_parts, part + 1) * tile_rows;
  const int64_t row1 = row_cut < job.co ? row_cut : job.co;
  const int64_t my_bands = divide_up(row1 - row0, tile_rows);

  const int64_t pitch = padded(job.ci, L);
  T* across = static_cast<T*>(memory);
  T* wide = across + (job.batch > L ? job.batch : L) * pitch;
  transpose_site(across, pitch, static_cast<const T*>(job.x) + site * job.x_site, job.x_channel, job.ci, job.batch);

  const T zeros[tile_rows] = {};
  Segment<T> segment;
  segment.b = across;
  segment.length = job.batch;
  Tile<T> tile;
  tile.segments = &segment;
  tile.segment_count = 1;
  tile.a_row = job.gy_channel;
  tile.a_k = 1;
  tile.b_k = pitch;
  tile.init = zeros;
  tile.c_row = convert ? pitch : job.ci;
  // a row of c, and of the transposed x under it, is as wide as a block or, where it is converted, as the pitch
  const int64_t width = convert ? pitch : job.ci;
  for (int64_t t = start; t < stop; ++t) {
    const T* gy = static_cast<const T*>(job.gy) + job.pattern.source[t] * job.gy_site;
    S* block = static_cast<S*>(job.gvalues) + job.pattern.block[t] * job.co * job.ci;
    for (int64_t band = 0; band < my_bands; ++band) {
      const int64_t row = row0 + part_start(row1 - row0, my_bands, band);
      const int rows = static_cast<int>(row0 + part_start(row1 - row0, my_bands, band + 1) - row);
      segment.a = gy + row * job.gy_channel;
      if constexpr (convert) {
        run_band(tile, segment, rows, across, wide, width);
        for (int r = 0; r < rows; ++r) narrow(block + (row + r) * job.ci, wide + r * pitch, job.ci);
      } else {
        run_band(tile, segment, rows, across, block + row * job.ci, width);
      }
    }
  }
}

}  // namespace EFCN_ISA
}  // namespace efcn
