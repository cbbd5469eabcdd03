// gvalues[block][co][ci] = sum over n of gy[p][co][n] * x[q][ci][n], as outer products: x of one site is transposed once, so that
// lanes run over ci and nothing is summed across lanes
#pragma once

#include "sgd.h"
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

template <class S>
void weight_outer_task(const WeightJob& job, int64_t task, void* memory) {
  using T = Compute<S>;
  constexpr int L = lanes<T>;
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

  const WeightSink<S> sink(job);
  // rows that are neither converted nor applied are stored by their tile
  const bool direct = sizeof(S) == sizeof(T) && !sink.updates;
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
  tile.c_row = direct ? job.ci : pitch;
  const int high = !direct || job.ci % L == 0 ? L : static_cast<int>(job.ci % L);
  const auto nothing = [](int64_t, int64_t) {};
  for (int64_t t = start; t < stop; ++t) {
    const T* gy = static_cast<const T*>(job.gy) + job.pattern.source[t] * job.gy_site;
    const int64_t block = job.pattern.block[t] * job.co;
    for (int64_t band = 0; band < my_bands; ++band) {
      const int64_t row = row0 + part_start(row1 - row0, my_bands, band);
      const int rows = static_cast<int>(row0 + part_start(row1 - row0, my_bands, band + 1) - row);
      segment.a = gy + row * job.gy_channel;
      tile.c = direct ? static_cast<T*>(job.gvalues) + (block + row) * job.ci : wide;
      run_band(tile, rows, pitch / L, 0, high, 0, nothing);
      if (direct) continue;
      for (int r = 0; r < rows; ++r) put(sink, (block + row + r) * job.ci, wide + r * pitch, job.ci);
    }
  }
}

}  // namespace EFCN_ISA
}  // namespace efcn
