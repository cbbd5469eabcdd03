// the same outer products for blocks too narrow to fill the lanes: the channels of all blocks of an output site stand side by side
#pragma once

#include "weight_outer.h"

namespace efcn {
namespace EFCN_ISA {

// columns that are transposed together: with them x of 250 images takes 64 KiB, which stays in the second-level cache
template <class T>
constexpr int64_t window_columns = 4 * lanes<T>;

template <class S>
size_t weight_window_scratch(const WeightJob& job) {
  return WeightTile<S>::scratch(job, window_columns<Compute<S>>);
}

template <class S>
void weight_window_task(const WeightJob& job, int64_t task, void* memory) {
  using T = Compute<S>;
  constexpr int L = lanes<T>;
  const int64_t site = task / job.row_parts, first = job.pattern.start[site];
  const int64_t columns = (job.pattern.start[site + 1] - first) * job.ci;
  const Bands bands(job.co, tile_rows, job.row_parts, task % job.row_parts);
  WeightTile<S> t(job, window_columns<T>, memory);
  t.tile.c_row = t.pitch;
  for (int64_t from = 0; from < columns; from += t.width) {
    const int64_t count = from + t.width < columns ? t.width : columns - from;
    for (int64_t c = 0; c < count; c += L) {
      const S* rows[L];
      for (int64_t i = 0; i < L; ++i) {
        const int64_t column = from + c + i;
        rows[i] = column < columns ? static_cast<const S*>(job.x) + job.pattern.source[first + column / job.ci] * job.x_site +
                                         column % job.ci * job.x_channel
                                   : nullptr;
      }
      transpose_rows(t.across + c, t.pitch, rows, job.batch);
    }
    for (int64_t band = 0; band < bands.count; ++band) {
      const int64_t row = bands.start(band);
      const int rows = static_cast<int>(bands.start(band + 1) - row);
      t.segment.a = gy_rows<S>(job, site, row, rows, t.aside, t.tile.a_row);
      run_band(t.tile, t.segment, rows, t.across, t.wide, padded(count, L));
      // stretches of columns that belong to one block
      for (int64_t c = 0; c < count;) {
        const int64_t block = first + (from + c) / job.ci, channel = (from + c) % job.ci;
        const int64_t stretch = job.ci - channel < count - c ? job.ci - channel : count - c;
        for (int r = 0; r < rows; ++r) put(t.sink, (block * job.co + row + r) * job.ci + channel, t.wide + r * t.pitch + c, stretch);
        c += stretch;
      }
    }
  }
}

}  // namespace EFCN_ISA
}  // namespace efcn
