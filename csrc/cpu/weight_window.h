// the same outer products for blocks too narrow to fill the lanes: the channels of all blocks of an output site stand side by side
#pragma once

#include "prefetch.h"
#include "weight_outer.h"

namespace efcn {
namespace EFCN_ISA {

// columns that are transposed together: with them x of 250 images takes 64 KiB, which stays in the second-level cache
template <class T>
constexpr int64_t window_columns = 4 * lanes<T>;

// a band's results, block by block; whole vectors are copied, the last one beyond the end of either
template <class S>
constexpr int64_t window_results = tile_rows * window_columns<Compute<S>> + lanes<Compute<S>>;

template <class S>
size_t weight_window_scratch(const WeightJob& job) {
  return WeightTile<S>::scratch(job, window_columns<Compute<S>>) + window_results<S> * sizeof(Compute<S>);
}

// columns of some blocks of an output site that are computed together
struct Stretch {
  int64_t block, channel, count;

  Stretch(int64_t first, int64_t column, int64_t end, int64_t ci)
      : block(first + column / ci), channel(column % ci), count(ci - channel < end - column ? ci - channel : end - column) {}
};

template <class S>
void weight_window_task(const WeightJob& job, int64_t task, void* memory) {
  using T = Compute<S>;
  constexpr int L = lanes<T>;
  const int64_t site = task / job.row_parts, first = job.pattern.start[site];
  const int64_t columns = (job.pattern.start[site + 1] - first) * job.ci;
  const Bands bands(job.co, tile_rows, job.row_parts, task % job.row_parts);
  WeightTile<S> t(job, window_columns<T>, memory);
  T* const results = t.end;
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
      // what the results go to arrives meanwhile, and the rows of gy that follow, in streams too short for the hardware to foresee
      for (int64_t c = 0; c < count;) {
        const Stretch part(first, from + c, from + count, job.ci);
        const S* to = t.sink.to + (part.block * job.co + row) * job.ci;
        for (int64_t i = 0; i < rows * job.ci; i += cache_line / static_cast<int64_t>(sizeof(S))) __builtin_prefetch(to + i, 1);
        c += part.count;
      }
      Prefetch<1> next;
      next.add(static_cast<const S*>(job.gy) + site * job.gy_site + (row + rows) * job.gy_channel, sizeof(S), rows, job.gy_channel,
               job.batch);
      next.spread(1);
      next.some();
      run_band(t.tile, t.segment, rows, t.across, t.wide, padded(count, L));
      // in memory a block's rows follow each other: of narrow blocks a band is a few vectors then, and not many short rows
      for (int64_t c = 0; c < count;) {
        const Stretch part(first, from + c, from + count, job.ci);
        if (part.count == job.ci) {
          for (int r = 0; r < rows; ++r) {
            for (int64_t i = 0; i < job.ci; i += L) store(results + c * rows + r * job.ci + i, load(t.wide + r * t.pitch + c + i));
          }
        }
        c += part.count;
      }
      for (int64_t c = 0; c < count;) {
        const Stretch part(first, from + c, from + count, job.ci);
        const int64_t at = (part.block * job.co + row) * job.ci + part.channel;
        if (part.count == job.ci) {
          put(t.sink, at, results + c * rows, rows * job.ci);
        } else {
          for (int r = 0; r < rows; ++r) put(t.sink, at + r * job.ci, t.wide + r * t.pitch + c, part.count);
        }
        c += part.count;
      }
    }
  }
}

}  // namespace EFCN_ISA
}  // namespace efcn
