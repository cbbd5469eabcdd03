// forward and backward_input are one product of a pattern's rows with batch lanes (see ProductJob for the formula)
#pragma once

#include "convert.h"
#include "tile.h"

namespace efcn {
namespace EFCN_ISA {

// stretch of the reduction between two visits of c. 128, 256 and 512 steps differed by no more than the noise on the layers of AlexNet
// (Intel, 2 MiB of second-level cache, N = 250); 256 leaves room in smaller caches
constexpr int64_t depth_block = 256;
// lanes taken together: depth_block x batch_block floats stay in the second-level cache. 144 lanes were 1 to 4 % slower than all 250
constexpr int64_t batch_block = 512;

template <class T>
struct ProductScratch {
  Segment<T> segments[depth_block];
  // whole vectors may be written past the end of a band
  T panel[tile_rows * depth_block + lanes<T>];
  T init[tile_rows];
};

// the segments of reduction steps [k0, k1) of a target site; offsets of a are kept apart because storage may need conversion
template <class T>
EFCN_INLINE int64_t list_segments(const ProductJob& job, int64_t first, int64_t k0, int64_t k1, Segment<T>* out, int64_t* a) {
  int64_t count = 0;
  for (int64_t k = k0; k < k1;) {
    const int64_t t = first + k / job.depth, inside = k % job.depth;
    const int64_t rest = job.depth - inside, length = rest < k1 - k ? rest : k1 - k;
    const int64_t block = job.pattern.block ? job.pattern.block[t] : t;
    a[count] = block * job.block_size + inside * job.a_k;
    out[count].b = static_cast<const T*>(job.b) + job.pattern.source[t] * job.b_site + inside * job.b_channel;
    out[count].length = length;
    ++count;
    k += length;
  }
  return count;
}

// as widen, but in whole vectors where both ends have room for what lies beyond `count`
template <class S>
EFCN_INLINE void widen_over(Compute<S>* to, const S* from, int64_t count, int64_t room) {
  constexpr int L = lanes<Compute<S>>;
  if (divide_up(count, L) * L > room) return widen(to, from, count);
  for (int64_t i = 0; i < count; i += L) store(to + i, load_as(from + i));
}

// a band of rows of all segments, converted and side by side, in the order in which the tile reads it
template <class S>
EFCN_INLINE void fill_panel(const ProductJob& job, const int64_t* a, int64_t count, int64_t row, int rows, Segment<Compute<S>>* segments,
                            Compute<S>* panel) {
  const S* values = static_cast<const S*>(job.values);
  int64_t k = 0;
  for (int64_t s = 0; s < count; ++s) {
    const int64_t length = segments[s].length;
    const int64_t from = a[s] + row * job.a_row;
    if (job.a_k == 1) {
      segments[s].a = panel + k;
      for (int r = 0; r < rows; ++r) {
        // what is written too much belongs to the segments that follow, as long as it stays in the row
        const int64_t left = job.value_count - from - r * job.a_row, space = depth_block - k;
        widen_over(panel + r * depth_block + k, values + from + r * job.a_row, length, left < space ? left : space);
      }
    } else {
      segments[s].a = panel + k * tile_rows;
      for (int64_t i = 0; i < length; ++i) {
        const int64_t at = from + i * job.a_k;
        widen_over(panel + (k + i) * tile_rows, values + at, rows, job.value_count - at);
      }
    }
    k += length;
  }
}

// asks for part i of `parts` of the weights of a band that comes next: they are read once per batch block, in strips too short for the
// hardware to foresee
template <class S>
EFCN_INLINE void prefetch_band(const ProductJob& job, const int64_t* a, int64_t count, const Segment<Compute<S>>* segments, int64_t row,
                               int64_t rows, int64_t i, int64_t parts) {
  constexpr int64_t line = 64 / sizeof(S);
  const S* values = static_cast<const S*>(job.values) + row * job.a_row;
  const int64_t last = part_start(count, parts, i + 1);
  for (int64_t s = part_start(count, parts, i); s < last; ++s) {
    if (job.a_k == 1) {
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t k = 0; k < segments[s].length; k += line) __builtin_prefetch(values + a[s] + r * job.a_row + k, 0, 2);
      }
    } else {
      for (int64_t k = 0; k < segments[s].length; ++k) __builtin_prefetch(values + a[s] + k * job.a_k, 0, 2);
    }
  }
}

template <class S>
void product_task(const ProductJob& job, int64_t task, void* memory) {
  using T = Compute<S>;
  constexpr int L = lanes<T>;
  auto& scratch = *static_cast<ProductScratch<T>*>(memory);
  int64_t a[depth_block];

  const int64_t batch_part = task % job.batch_parts;
  const int64_t row_part = task / job.batch_parts % job.row_parts;
  const int64_t site = task / job.batch_parts / job.row_parts;

  const int64_t bands = divide_up(job.rows, tile_rows);
  const int64_t row0 = part_start(bands, job.row_parts, row_part) * tile_rows;
  const int64_t row_cut = part_start(bands, job.row_parts, row_part + 1) * tile_rows;
  const int64_t row1 = row_cut < job.rows ? row_cut : job.rows;
  const int64_t my_bands = divide_up(row1 - row0, tile_rows);

  const int64_t vectors = divide_up(job.batch, L);
  const int over = static_cast<int>(vectors * L - job.batch);
  const int64_t vector1 = part_start(vectors, job.batch_parts, batch_part + 1);
  const int64_t first = job.pattern.start[site];
  const int64_t steps = (job.pattern.start[site + 1] - first) * job.depth;

  // weights that need no conversion are read in place: copying them side by side cost grad-input 3 to 20 % and gained forward nothing
  constexpr bool panel = sizeof(S) != sizeof(T);
  Tile<T> tile;
  tile.segments = scratch.segments;
  tile.c_row = job.c_channel;
  tile.b_k = job.b_channel;
  tile.a_row = job.a_row;
  tile.a_k = job.a_k;
  if (panel) {
    tile.a_row = job.a_k == 1 ? depth_block : 1;
    tile.a_k = job.a_k == 1 ? 1 : tile_rows;
  }
  int64_t vector0 = part_start(vectors, job.batch_parts, batch_part);
  for (; vector0 < vector1; vector0 += batch_block / L) {
    const int64_t end = vector0 + batch_block / L < vector1 ? vector0 + batch_block / L : vector1;
    int64_t k0 = 0;
    do {
      const int64_t k1 = k0 + depth_block < steps ? k0 + depth_block : steps;
      tile.segment_count = list_segments(job, first, k0, k1, scratch.segments, a);
      for (int64_t band = 0; band < my_bands; ++band) {
        const int64_t row = row0 + part_start(row1 - row0, my_bands, band);
        const int rows = static_cast<int>(row0 + part_start(row1 - row0, my_bands, band + 1) - row);
        if (panel) {
          fill_panel<S>(job, a, tile.segment_count, row, rows, scratch.segments, scratch.panel);
        } else {
          for (int64_t s = 0; s < tile.segment_count; ++s) {
            scratch.segments[s].a = static_cast<const T*>(job.values) + a[s] + row * job.a_row;
          }
        }
        tile.init = nullptr;
        if (k0 == 0) {
          for (int r = 0; r < rows; ++r) scratch.init[r] = 0;
          if (job.bias) widen(scratch.init, static_cast<const S*>(job.bias) + site * job.rows + row, rows);
          tile.init = scratch.init;
        }
        tile.c = static_cast<T*>(job.c) + site * job.c_site + row * job.c_channel;
        const int64_t next = row + rows, next_rows = row1 - next < tile_rows ? row1 - next : tile_rows;
        const auto ahead = [&](int64_t i, int64_t parts) {
          if (next_rows > 0) prefetch_band<S>(job, a, tile.segment_count, scratch.segments, next, next_rows, i, parts);
        };
        run_band(tile, rows, end - vector0, vector0 * L, L, end == vectors ? over : 0, ahead);
      }
      k0 = k1;
    } while (k0 < steps);
  }
}

static size_t product_scratch(const ProductJob&) {
  return sizeof(ProductScratch<double>) > sizeof(ProductScratch<float>) ? sizeof(ProductScratch<double>) : sizeof(ProductScratch<float>);
}

}  // namespace EFCN_ISA
}  // namespace efcn
