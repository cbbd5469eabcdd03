// forward and backward_input are one product of a pattern's rows with batch lanes (see ProductJob for the formula)
#pragma once

#include "convert.h"
#include "prefetch.h"
#include "tile.h"

namespace efcn {
namespace EFCN_ISA {

// the reduction is cut into chunks: 128 steps of a panel of b, four vectors wide, are 32 KiB and stay in the first-level cache while all
// rows pass by. On conv2 of AlexNet (AVX-512, one thread) 96 steps gave the same, 192 and 256 were 5 to 9 % slower
constexpr int64_t chunk_steps = 96;
// bytes of a row of c that are computed together: with 384 rows 384 KiB in the second-level cache
constexpr int64_t row_bytes = 1024;
// a panel of b is copied side by side, aligned and converted, where at least so many bands of rows use it
constexpr int64_t worth_packing = 3;
// the weights of a chunk are copied side by side where blocks are narrower than this: a segment of a few steps ends in a mispredicted
// branch that costs more than the copy
constexpr int64_t narrow_depth = 16;

// a part of one block that a chunk reduces over: where its weights begin, and its rows of b
template <class S>
struct Part {
  int64_t a;
  const S* b;
  int64_t length;
};

template <class S>
EFCN_INLINE int64_t list_parts(const ProductJob& job, int64_t first, int64_t k0, int64_t k1, Part<S>* out) {
  int64_t count = 0;
  for (int64_t k = k0; k < k1; ++count) {
    const int64_t t = first + k / job.depth, inside = k % job.depth;
    const int64_t rest = job.depth - inside, length = rest < k1 - k ? rest : k1 - k;
    const int64_t block = job.pattern.block ? job.pattern.block[t] : t;
    out[count] = {block * job.block_size + inside * job.a_k,
                  static_cast<const S*>(job.b) + job.pattern.source[t] * job.b_site + inside * job.b_channel, length};
    k += length;
  }
  return count;
}

template <class S>
struct Product {
  using T = Compute<S>;
  static constexpr int L = lanes<T>;
  static constexpr bool convert = sizeof(S) != sizeof(T);
  static constexpr int64_t row_vectors = row_bytes / EFCN_VECTOR_BYTES;
  static constexpr int64_t widest = tile_vectors(tile_rows) > 8 ? tile_vectors(tile_rows) : 8;

  const ProductJob& job;
  // scratch: a panel of b, a block of c, the weights of a chunk
  T* panel;
  T* sums;
  T* weights;
  // this task's site and rows, the rows in bands of nearly equal height, and the vectors of a panel
  int64_t site, row0, row1, bands, width;
  bool pack_weights;
  Part<S> parts[chunk_steps];
  Segment<T> segments[chunk_steps];

  static bool packs_weights(const ProductJob& job) { return convert || job.depth < narrow_depth; }
  static int64_t task_rows(const ProductJob& job) { return divide_up(divide_up(job.rows, tile_rows), job.row_parts) * tile_rows; }
  static size_t panel_size() { return static_cast<size_t>(chunk_steps * widest * L); }
  static size_t sums_size(const ProductJob& job) { return static_cast<size_t>(task_rows(job) * row_vectors * L); }
  // one vector more: whole vectors are written
  static size_t weights_size(const ProductJob& job) {
    return packs_weights(job) ? static_cast<size_t>(task_rows(job) * chunk_steps + L) : 0;
  }

  Product(const ProductJob& j, int64_t row_part, int64_t s, void* memory)
      : job(j), panel(static_cast<T*>(memory)), sums(panel + panel_size()), weights(sums + sums_size(j)), site(s) {
    const int64_t all = divide_up(job.rows, tile_rows);
    row0 = part_start(all, job.row_parts, row_part) * tile_rows;
    const int64_t cut = part_start(all, job.row_parts, row_part + 1) * tile_rows;
    row1 = cut < job.rows ? cut : job.rows;
    bands = divide_up(row1 - row0, tile_rows);
    width = tile_vectors(static_cast<int>(divide_up(row1 - row0, bands)));
    pack_weights = packs_weights(job);
  }

  int64_t band_start(int64_t band) const { return row0 + part_start(row1 - row0, bands, band); }

  // weights of all bands for this chunk, each band in the order in which its tile reads it: rows of steps, or steps of rows
  void fill_weights(int64_t count) {
    const S* values = static_cast<const S*>(job.values);
    for (int64_t band = 0; band < bands; ++band) {
      const int64_t row = band_start(band), rows = band_start(band + 1) - row;
      T* to = weights + band * tile_rows * chunk_steps;
      // what is written too much is overwritten by what follows
      if (job.a_k == 1) {
        for (int64_t r = row; r < row + rows; ++r, to += chunk_steps) {
          int64_t k = 0;
          for (int64_t i = 0; i < count; k += parts[i++].length) widen_over(to + k, values, parts[i].a + r * job.a_row, parts[i].length);
        }
      } else {
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t k = 0; k < parts[i].length; ++k, to += tile_rows) widen_over(to, values, parts[i].a + k * job.a_k + row, rows);
        }
      }
    }
  }

  // as widen, but in whole vectors as far as the values reach
  void widen_over(T* to, const S* values, int64_t at, int64_t count) const {
    if (at + divide_up(count, L) * L > job.value_count) return widen(to, values + at, count);
    for (int64_t i = 0; i < count; i += L) store(to + i, load_as(values + at + i));
  }

  void fill_panel(int64_t count, const Span<T>& span, int64_t vectors) {
    T* to = panel;
    for (int64_t i = 0; i < count; ++i) {
      const S* from = parts[i].b + span.offset;
      for (int64_t k = 0; k < parts[i].length; ++k, to += vectors * L, from += job.b_channel) {
        if (span.high < L) {
          widen(to, from, span.high);
          continue;
        }
        for (int64_t v = 0; v < vectors - 1; ++v) store(to + v * L, load_as(from + v * L));
        store(to + (vectors - 1) * L, load_as(from + span.last));
      }
    }
  }

  // the weights of the chunk that comes next, in this site or in the one after it
  void foresee(Prefetch<chunk_steps>& ahead, int64_t first, int64_t k1, int64_t steps) {
    if (k1 == steps) {
      if (site + 1 == job.sites) return;
      first = job.pattern.start[site + 1];
      steps = (job.pattern.start[site + 2] - first) * job.depth;
      k1 = 0;
    }
    Part<S> next[chunk_steps];
    const int64_t count = list_parts(job, first, k1, k1 + chunk_steps < steps ? k1 + chunk_steps : steps, next);
    for (int64_t i = 0; i < count; ++i) {
      const S* from = static_cast<const S*>(job.values) + next[i].a + row0 * job.a_row;
      const int64_t rows = row1 - row0, length = next[i].length;
      if (job.a_k == 1) {
        ahead.add(from, sizeof(S), rows, job.a_row, length);
      } else {
        ahead.add(from, sizeof(S), length, job.a_k, rows);
      }
    }
  }

  // c of this site and these rows for vectors [vector0, vector1)
  void compute(int64_t vector0, int64_t vector1) {
    const int64_t first = job.pattern.start[site], steps = (job.pattern.start[site + 1] - first) * job.depth;
    const int64_t panels = divide_up(vector1 - vector0, width), pitch = (vector1 - vector0) * L;
    S* const target = static_cast<S*>(job.c) + site * job.c_site;
    // a single chunk writes c as it goes; more of them add up aside, aligned and in the compute type
    const bool aside = convert || steps > chunk_steps;
    T init[tile_rows];
    Tile<T> tile;
    tile.segments = segments;
    int64_t k0 = 0;
    do {
      const int64_t k1 = k0 + chunk_steps < steps ? k0 + chunk_steps : steps;
      const int64_t count = list_parts(job, first, k0, k1, parts);
      if (pack_weights) fill_weights(count);
      Prefetch<chunk_steps> ahead;
      foresee(ahead, first, k1, steps);
      ahead.spread(panels * bands);
      for (int64_t p = 0; p < panels; ++p) {
        const int64_t from = vector0 + part_start(vector1 - vector0, panels, p),
                      to = vector0 + part_start(vector1 - vector0, panels, p + 1);
        const Span<T> span(from, to - from, job.batch);
        const bool copy = convert || bands >= worth_packing || span.high < L;
        if (copy) fill_panel(count, span, to - from);
        const int64_t packed_last = (to - from - 1) * L;
        tile.b_k = copy ? (to - from) * L : job.b_channel;
        tile.b_last = copy ? packed_last : span.last;
        tile.c_last = aside ? packed_last : span.last;
        tile.high = aside ? L : span.high;
        for (int64_t band = 0; band < bands; ++band) {
          const int64_t row = band_start(band), rows = band_start(band + 1) - row;
          tile.segment_count = lay_segments(count, copy, span.offset, (to - from) * L, band, row);
          tile.a_row = pack_weights ? (job.a_k == 1 ? chunk_steps : 1) : job.a_row;
          tile.a_k = pack_weights ? (job.a_k == 1 ? 1 : tile_rows) : job.a_k;
          tile.init = nullptr;
          if (k0 == 0) {
            for (int r = 0; r < rows; ++r) init[r] = 0;
            if (job.bias) widen(init, static_cast<const S*>(job.bias) + site * job.rows + row, rows);
            tile.init = init;
          }
          tile.c_row = aside ? pitch : job.c_channel;
          if (aside) {
            tile.c = sums + (row - row0) * pitch + (from - vector0) * L;
          } else if constexpr (!convert) {
            tile.c = target + row * job.c_channel + span.offset;
          }
          ahead.some();
          choose_tile<T>(static_cast<int>(rows), static_cast<int>(to - from))(tile);
        }
      }
      k0 = k1;
    } while (k0 < steps);
    if (aside) {
      for (int64_t row = row0; row < row1; ++row) write_row(target + row * job.c_channel, sums + (row - row0) * pitch, vector0, vector1);
    }
  }

  int64_t lay_segments(int64_t count, bool copy, int64_t offset, int64_t panel_pitch, int64_t band, int64_t row) {
    const T* side = weights + band * tile_rows * chunk_steps;
    if (pack_weights && copy) {
      int64_t length = 0;
      for (int64_t i = 0; i < count; ++i) length += parts[i].length;
      segments[0] = {side, panel, length};
      return count > 0 ? 1 : 0;
    }
    int64_t k = 0;
    for (int64_t i = 0; i < count; ++i) {
      segments[i].length = parts[i].length;
      if (pack_weights) {
        segments[i].a = side + k * (job.a_k == 1 ? 1 : tile_rows);
      } else if constexpr (!convert) {
        segments[i].a = static_cast<const T*>(job.values) + parts[i].a + row * job.a_row;
      }
      if (copy) {
        segments[i].b = panel + k * panel_pitch;
      } else if constexpr (!convert) {
        segments[i].b = parts[i].b + offset;
      }
      k += parts[i].length;
    }
    return count;
  }

  void write_row(S* to, const T* from, int64_t vector0, int64_t vector1) const {
    if (job.batch < L) return narrow(to, from, job.batch);
    for (int64_t v = vector0; v < vector1; ++v) {
      const int64_t at = v * L < job.batch - L ? v * L : job.batch - L;
      store_as(to + at, load(from + (v - vector0) * L));
    }
  }
};

template <class S>
void product_task(const ProductJob& job, int64_t task, void* memory) {
  const int64_t batch_part = task % job.batch_parts;
  const int64_t row_part = task / job.batch_parts % job.row_parts;
  Product<S> product(job, row_part, task / job.batch_parts / job.row_parts, memory);
  const int64_t vectors = divide_up(job.batch, lanes<Compute<S>>);
  const int64_t begin = part_start(vectors, job.batch_parts, batch_part);
  const int64_t mine = part_start(vectors, job.batch_parts, batch_part + 1) - begin;
  const int64_t blocks = divide_up(mine, Product<S>::row_vectors);
  for (int64_t i = 0; i < blocks; ++i) product.compute(begin + part_start(mine, blocks, i), begin + part_start(mine, blocks, i + 1));
}

template <class S>
size_t product_scratch(const ProductJob& job) {
  using P = Product<S>;
  return (P::panel_size() + P::sums_size(job) + P::weights_size(job)) * sizeof(Compute<S>);
}

}  // namespace EFCN_ISA
}  // namespace efcn
