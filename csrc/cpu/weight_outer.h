// gvalues[block][co][ci] = sum over n of gy[p][co][n] * x[q][ci][n], as outer products: x of one site is transposed once, so that
// lanes run over ci and nothing is summed across lanes
#pragma once

#include "sgd.h"
#include "tile.h"

namespace efcn {
namespace EFCN_ISA {

static int64_t padded(int64_t count, int64_t multiple) { return divide_up(count, multiple) * multiple; }

// to[n][pitch] = rows[c][n] for one vector of rows; a null row gives zeros
template <class S>
EFCN_INLINE void transpose_rows(Compute<S>* to, int64_t pitch, const S* const* rows, int64_t batch) {
  using T = Compute<S>;
  constexpr int L = lanes<T>;
  for (int64_t n = 0; n < batch; n += L) {
    // the last square overlaps its neighbour
    const int64_t start = n + L <= batch || batch < L ? n : batch - L;
    Vec<T> v[L];
    if (batch < L) {
      for (int i = 0; i < L; ++i) v[i] = rows[i] ? load_some_as(rows[i], batch) : Vec<T>{};
    } else {
      for (int i = 0; i < L; ++i) v[i] = rows[i] ? load_as(rows[i] + start) : Vec<T>{};
    }
    transpose<T>(v);
    for (int i = 0; i < L && start + i < batch; ++i) store(to + (start + i) * pitch, v[i]);
  }
}

// rows of gy as the tile reads them: in place, or converted aside
template <class S>
EFCN_INLINE const Compute<S>* gy_rows(const WeightJob& job, int64_t site, int64_t row, int rows, Compute<S>* aside, int64_t pitch) {
  const S* from = static_cast<const S*>(job.gy) + site * job.gy_site + row * job.gy_channel;
  if constexpr (sizeof(S) == sizeof(Compute<S>)) {
    return from;
  } else {
    for (int r = 0; r < rows; ++r) widen(aside + r * pitch, from + r * job.gy_channel, job.batch);
    return aside;
  }
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

// the bands of output channels that a task computes, and the buffers of its thread: x transposed, rows of gradients, rows of gy
template <class S>
struct WeightTile {
  using T = Compute<S>;

  const int64_t width, pitch;
  const WeightSink<S> sink;
  T* across;
  T* wide;
  T* aside;
  // of the three
  T* end;
  const T zeros[tile_rows] = {};
  Segment<T> segment;
  Tile<T> tile;

  // width: columns at most
  WeightTile(const WeightJob& job, int64_t columns, void* memory) : width(columns), pitch(padded(columns, lanes<T>)), sink(job) {
    across = static_cast<T*>(memory);
    wide = across + job.batch * pitch;
    aside = wide + tile_rows * pitch;
    end = aside + tile_rows * padded(job.batch, lanes<T>);
    segment.length = job.batch;
    tile.segments = &segment;
    tile.segment_count = 1;
    tile.a_row = sizeof(S) == sizeof(T) ? job.gy_channel : padded(job.batch, lanes<T>);
    tile.a_k = 1;
    tile.b_k = pitch;
    tile.init = zeros;
  }

  static size_t scratch(const WeightJob& job, int64_t columns) {
    const int64_t row = padded(columns, lanes<T>);
    return static_cast<size_t>(job.batch * row + tile_rows * (row + padded(job.batch, lanes<T>))) * sizeof(T);
  }
};

template <class S>
size_t weight_outer_scratch(const WeightJob& job) {
  return WeightTile<S>::scratch(job, job.ci);
}

template <class S>
void weight_outer_task(const WeightJob& job, int64_t task, void* memory) {
  using T = Compute<S>;
  constexpr int L = lanes<T>;
  const int64_t site = task / job.row_parts;
  const int64_t start = job.pattern.start[site], stop = job.pattern.start[site + 1];
  if (start == stop) return;
  const Bands bands(job.co, tile_rows, job.row_parts, task % job.row_parts);

  WeightTile<S> t(job, job.ci, memory);
  const S* x = static_cast<const S*>(job.x) + site * job.x_site;
  for (int64_t c = 0; c < job.ci; c += L) {
    const S* rows[L];
    for (int64_t i = 0; i < L; ++i) rows[i] = c + i < job.ci ? x + (c + i) * job.x_channel : nullptr;
    transpose_rows(t.across + c, t.pitch, rows, job.batch);
  }
  // rows that are neither converted nor applied are stored by their tile
  const bool direct = sizeof(S) == sizeof(T) && !t.sink.updates;
  t.tile.c_row = direct ? job.ci : t.pitch;
  if (direct) t.tile.streams = job.streams && job.ci % L == 0 && reinterpret_cast<uintptr_t>(job.gvalues) % EFCN_VECTOR_BYTES == 0;
  for (int64_t b = start; b < stop; ++b) {
    const int64_t block = job.pattern.block[b] * job.co;
    for (int64_t band = 0; band < bands.count; ++band) {
      const int64_t row = bands.start(band);
      const int rows = static_cast<int>(bands.start(band + 1) - row);
      t.segment.a = gy_rows<S>(job, job.pattern.source[b], row, rows, t.aside, t.tile.a_row);
      T* c = direct ? static_cast<T*>(job.gvalues) + (block + row) * job.ci : t.wide;
      run_band(t.tile, t.segment, rows, t.across, c, direct ? job.ci : t.pitch);
      if (direct) continue;
      for (int r = 0; r < rows; ++r) put(t.sink, (block + row + r) * job.ci, t.wide + r * t.pitch, job.ci);
    }
  }
  if (t.tile.streams) fence();
}

}  // namespace EFCN_ISA
}  // namespace efcn
