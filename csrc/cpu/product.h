// forward and backward_input are one product of a pattern's rows with batch lanes (see ProductJob for the formula)
#pragma once

#include "product_site.h"
#include "tuning.h"

namespace efcn {
namespace EFCN_ISA {

// the weights of a chunk are copied side by side where blocks are narrower than this: a segment of a few steps ends in a mispredicted
// branch that costs more than the copy
constexpr int64_t narrow_depth = 16;

template <class S, Images images>
struct Product : ProductSite<S, tuning_of(images).chunk, tile_rows> {
  static constexpr Tuning tuning = tuning_of(images);
  static constexpr int64_t chunk_steps = tuning.chunk;
  using Site = ProductSite<S, chunk_steps, tile_rows>;
  using T = Compute<S>;
  using Site::bands;
  using Site::job;
  using Site::L;
  using Site::members;
  using Site::weights_of;
  static constexpr bool convert = sizeof(S) != sizeof(T);
  static_assert(!(images == Images::in_place && convert), "what is converted is copied");
  // whole vectors are written
  static constexpr int64_t weight_pitch = chunk_steps + L;
  static constexpr int64_t panel_size = chunk_steps * tuning.panel * L;

  // scratch: a panel of b, a block of c, the weights of a chunk
  T* panel;
  T* sums;
  T* weights;
  // vectors of a panel
  int64_t width;
  bool pack_weights;
  Part<S> parts[chunk_steps];
  Segment<T> segments[chunk_steps];
  int64_t count = 0;

  static bool packs_weights(const ProductJob& job) { return convert || job.depth < narrow_depth || job.groups; }
  static int64_t sums_size(const ProductJob& job) { return Site::task_rows(job) * Site::row_vectors * L; }
  static int64_t scratch_size(const ProductJob& job) {
    return panel_size + sums_size(job) + (packs_weights(job) ? Site::task_rows(job) * weight_pitch + L : 0);
  }

  Product(const ProductJob& j, int64_t task, void* memory)
      : Site(j, task),
        panel(static_cast<T*>(memory)),
        sums(panel + panel_size),
        weights(sums + sums_size(j)),
        width(tile_vectors(static_cast<int>(divide_up(bands.row1 - bands.row0, bands.count)))),
        pack_weights(packs_weights(j)) {}

  // the weights of a chunk in the order in which tiles read them: rows of steps or, for each band, steps of rows
  void fill_weights() {
    if (members > 1) return fill_group();
    if (job.a_k == 1) {
      // what is written too much is overwritten by the parts that follow
      T* to = weights;
      for (int64_t i = 0; i < count; to += parts[i++].length) {
        widen_rows(to, weight_pitch, parts[i].a + bands.row0 * job.a_row, job.a_row, bands.row1 - bands.row0, parts[i].length);
      }
      return;
    }
    for (int64_t band = 0; band < bands.count; ++band) {
      T* to = weights + band * tile_rows * weight_pitch;
      const int64_t row = bands.start(band), rows = bands.start(band + 1) - row;
      for (int64_t i = 0; i < count; to += parts[i++].length * tile_rows) {
        widen_rows(to, tile_rows, parts[i].a + row, job.a_k, parts[i].length, rows);
      }
    }
  }

  // the same for a group: rows come from one member after the other
  void fill_group() {
    int64_t k0 = 0;
    for (int64_t i = 0; i < count; k0 += parts[i++].length) {
      for (int64_t band = 0; band < bands.count; ++band) {
        const int64_t begin = bands.start(band), end = bands.start(band + 1);
        for (int64_t row = begin; row < end;) {
          const int64_t inside = row % job.rows, rest = end - row, rows = rest < job.rows - inside ? rest : job.rows - inside;
          const int64_t at = weights_of(row / job.rows, parts[i]) + inside * job.a_row;
          if (job.a_k == 1) {
            widen_rows(weights + row * weight_pitch + k0, weight_pitch, at, job.a_row, rows, parts[i].length);
          } else {
            T* to = weights + (band * weight_pitch + k0) * tile_rows + row - begin;
            const S* from = static_cast<const S*>(job.values) + at;
            for (int64_t k = 0; k < parts[i].length; ++k, to += tile_rows, from += job.a_k) {
              for (int64_t r = 0; r < rows; ++r) to[r] = widen_one(from[r]);
            }
          }
          row += rows;
        }
      }
    }
  }

  // rows of `length` values from `at`, in whole vectors as far as the values reach
  void widen_rows(T* to, int64_t pitch, int64_t at, int64_t stride, int64_t rows, int64_t length) const {
    const S* from = static_cast<const S*>(job.values) + at;
    const bool room = at + (rows - 1) * stride + divide_up(length, L) * L <= job.value_count;
    for (int64_t r = 0; r < rows; ++r, to += pitch, from += stride) {
      if (!room) {
        widen(to, from, length);
        continue;
      }
      for (int64_t k = 0; k < length; k += L) store(to + k, load_as(from + k));
    }
  }

  void fill_panel(const Span<T>& span, int64_t vectors) {
    T* to = panel;
    for (int64_t i = 0; i < count; ++i) {
      const S* from = parts[i].b + span.offset;
      for (int64_t k = 0; k < parts[i].length; ++k, to += vectors * L, from += job.b_channel) {
        if (span.high < L) {
          // zeros behind: left-over bits may be denormal numbers, which are very slow
          store(to, load_some_as(from, span.high));
          continue;
        }
        for (int64_t v = 0; v < vectors - 1; ++v) store(to + v * L, load_as(from + v * L));
        store(to + (vectors - 1) * L, load_as(from + span.last));
      }
    }
  }

  // c of this site and these rows for vectors [vector0, vector1)
  void compute(int64_t vector0, int64_t vector1) {
    const int64_t panels = divide_up(vector1 - vector0, width), pitch = (vector1 - vector0) * L;
    // a single chunk writes c as it goes; more of them add up aside, aligned and in the compute type
    const bool aside = convert || Site::steps > chunk_steps;
    Tile<T> tile;
    tile.a_row = pack_weights ? (job.a_k == 1 ? weight_pitch : 1) : job.a_row;
    tile.a_k = pack_weights ? (job.a_k == 1 ? 1 : tile_rows) : job.a_k;
    tile.c_row = aside ? pitch : job.c_channel;
    int64_t k0 = 0;
    do {
      count = Site::list_parts(Site::first, Site::steps, k0, parts);
      if (pack_weights) fill_weights();
      Prefetch<chunk_steps> ahead;
      Site::foresee(ahead, k0 + chunk_steps, panels * bands.count);
      for (int64_t p = 0; p < panels; ++p) {
        const int64_t from = vector0 + part_start(vector1 - vector0, panels, p);
        const int64_t vectors = vector0 + part_start(vector1 - vector0, panels, p + 1) - from;
        const Span<T> span(from, vectors, job.batch);
        const bool copy = convert || (images == Images::copied && bands.count >= worth_packing) || span.high < L;
        if (copy) fill_panel(span, vectors);
        tile.b_k = copy ? vectors * L : job.b_channel;
        tile.b_last = copy ? (vectors - 1) * L : span.last;
        tile.c_last = aside ? (vectors - 1) * L : span.last;
        tile.high = aside ? L : span.high;
        for (int64_t band = 0; band < bands.count; ++band) {
          const int64_t row = bands.start(band);
          const int rows = static_cast<int>(bands.start(band + 1) - row);
          // whole vectors may be written
          T init[tile_rows + L] = {};
          if (job.bias) widen(init, static_cast<const S*>(job.bias) + Site::site * job.rows + row, rows);
          tile.init = k0 == 0 ? init : nullptr;
          tile.segments = segments;
          tile.segment_count = lay_segments(copy ? panel : nullptr, tile.b_k, span.offset, band);
          if (aside) {
            tile.c = sums + (row - bands.row0) * pitch + (from - vector0) * L;
          } else if constexpr (!convert) {
            tile.c = static_cast<T*>(job.c) + Site::site * job.c_site + row * job.c_channel + span.offset;
          }
          ahead.some();
          choose_tile<T, T, tuning.ahead>(rows, static_cast<int>(vectors))(tile);
        }
      }
      k0 += chunk_steps;
    } while (k0 < Site::steps);
    if (aside) Site::write(sums, pitch, vector0, vector1);
  }

  // where a band of rows finds the weights of the chunk and what they are multiplied with: in the copies, where there are any
  int64_t lay_segments(const T* copy, int64_t pitch, int64_t offset, int64_t band) {
    const int64_t row = bands.start(band), step = job.a_k == 1 ? 1 : tile_rows;
    const T* side = weights + (job.a_k == 1 ? row - bands.row0 : band * tile_rows) * weight_pitch;
    int64_t k = 0;
    for (int64_t i = 0; i < count; k += parts[i++].length) {
      segments[i] = {side + k * step, copy + k * pitch, parts[i].length};
      if constexpr (!convert) {
        if (!pack_weights) segments[i].a = static_cast<const T*>(job.values) + parts[i].a + row * job.a_row;
        if (!copy) segments[i].b = parts[i].b + offset;
      }
    }
    if (!pack_weights || !copy || count == 0) return count;
    segments[0].length = k;
    return 1;
  }
};

template <class S, Images images>
void product_task(const ProductJob& job, int64_t task, void* memory) {
  Product<S, images> product(job, task, memory);
  product.for_each_block(task, [&](int64_t vector0, int64_t vector1) { product.compute(vector0, vector1); });
}

template <class S, Images images>
size_t product_scratch(const ProductJob& job) {
  return static_cast<size_t>(Product<S, images>::scratch_size(job)) * sizeof(Compute<S>);
}

template <class S, Images images>
constexpr ProductKernel product_kernel = {product_task<S, images>, product_scratch<S, images>, tile_rows, 0, true};

}  // namespace EFCN_ISA
}  // namespace efcn
