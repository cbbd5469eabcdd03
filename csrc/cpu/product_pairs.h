// bfloat16 multiplied in pairs of steps, two to a 32-bit element, and added up in float32: forward and backward_input. An engine gives the
// instructions (see isa_avx512_bf16.cpp, isa_amx.cpp)
#pragma once

#include "kernel_table.h"
#include "pair.h"
#include "product_site.h"

namespace efcn {
namespace EFCN_ISA {

// as ProductSite, with the steps of a chunk as one flat sequence, zeros up to a whole number of the engine's steps
template <class Engine>
struct PairProduct : ProductSite<bf16, Engine::chunk, Engine::rows> {
  using Site = ProductSite<bf16, Engine::chunk, Engine::rows>;
  using Site::bands;
  using Site::job;
  using Site::L;
  static constexpr int64_t chunk = Engine::chunk, width = Engine::width;
  static constexpr int64_t panel_size = chunk / 2 * width * L;
  // one line more, so that rows do not meet in the same sets of a cache
  static constexpr int64_t weight_pitch = chunk / 2 + L;

  // scratch: a panel of b, the weights of a chunk, a block of c
  Pair* panel;
  Pair* weights;
  float* sums;
  Part<bf16> parts[chunk];
  // the row of b and, in backward_input, of the weights that belongs to each step; null beyond the last
  const bf16* b_rows[chunk];
  const bf16* a_rows[chunk];
  int64_t pairs = 0;

  // whole squares are written
  static int64_t weights_size(const ProductJob& job) { return divide_up(Site::task_rows(job), L) * L * weight_pitch; }
  static int64_t scratch_size(const ProductJob& job) {
    return panel_size + weights_size(job) + Site::task_rows(job) * Site::row_vectors * L;
  }

  PairProduct(const ProductJob& j, int64_t task, void* memory)
      : Site(j, task),
        panel(static_cast<Pair*>(memory)),
        weights(panel + panel_size),
        sums(reinterpret_cast<float*>(weights + weights_size(j))) {}

  void list_rows(int64_t k0) {
    const int64_t count = Site::list_parts(Site::first, Site::steps, k0, parts);
    int64_t k = 0;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < parts[i].length; ++j, ++k) {
        b_rows[k] = parts[i].b + j * job.b_channel;
        a_rows[k] = static_cast<const bf16*>(job.values) + parts[i].a + j * job.a_k + bands.row0 * job.a_row;
      }
    }
    for (; k % Engine::steps; ++k) a_rows[k] = b_rows[k] = nullptr;
    pairs = k / 2;
    if (job.a_k == 1) {
      copy_weights(count);
    } else {
      transpose_weights();
    }
  }

  // rows of values are rows of weights already
  void copy_weights(int64_t count) {
    for (int64_t r = 0; r < bands.row1 - bands.row0; ++r) {
      bf16* to = reinterpret_cast<bf16*>(weights + r * weight_pitch);
      bf16* const end = to + 2 * pairs;
      for (int64_t i = 0; i < count; to += parts[i++].length) {
        const bf16* from = static_cast<const bf16*>(job.values) + parts[i].a + (bands.row0 + r) * job.a_row;
        for (int64_t k = 0; k < parts[i].length; k += 2 * L) {
          const int64_t left = parts[i].length - k;
          const __mmask32 mask = left < 2 * L ? (__mmask32{1} << left) - 1 : ~__mmask32{0};
          _mm512_mask_storeu_epi16(to + k, mask, _mm512_maskz_loadu_epi16(mask, from + k));
        }
      }
      while (to < end) *to++ = bf16{0};
    }
  }

  // values run along the rows of weights: squares of 16 rows by 16 pairs of steps
  void transpose_weights() {
    for (int64_t r = 0; r < bands.row1 - bands.row0; r += L) {
      for (int64_t p = 0; p < pairs; p += L) {
        Vec<float> square[L];
        for (int64_t i = 0; i < L; ++i) {
          const bf16* const* rows = a_rows + 2 * (p + i);
          const bool inside = p + i < pairs;
          const bf16 *low = inside ? rows[0] : nullptr, *high = inside ? rows[1] : nullptr;
          square[i] = (Vec<float>)load_pairs(low ? low + r : nullptr, high ? high + r : nullptr, bands.row1 - bands.row0 - r);
        }
        transpose<float>(square);
        for (int64_t i = 0; i < L; ++i) store_pairs(weights + (r + i) * weight_pitch + p, (Bits)square[i]);
      }
    }
  }

  void fill_panel(const Span<float>& span, int64_t vectors) {
    Pair* to = panel;
    const int64_t together = span.high == L && span.last == (vectors - 1) * L ? vectors / 2 * 2 : 0;
    for (int64_t p = 0; p < pairs; ++p, to += width * L) {
      const bf16 *low = b_rows[2 * p], *high = b_rows[2 * p + 1];
      int64_t v = 0;
      if (low && high) {
        for (; v < together; v += 2) store_two_pairs(to + v * L, low + span.offset + v * L, high + span.offset + v * L);
      }
      for (; v < vectors; ++v) {
        const int64_t at = span.offset + (v < vectors - 1 ? v * L : span.last);
        store_pairs(to + v * L, load_pairs(low ? low + at : nullptr, high ? high + at : nullptr, span.high));
      }
    }
  }

  void start(int64_t pitch) {
    for (int64_t row = bands.row0; row < bands.row1; ++row) {
      float bias = 0;
      if (job.bias) widen(&bias, static_cast<const bf16*>(job.bias) + Site::site * job.rows + row, 1);
      for (int64_t n = 0; n < pitch; n += L) store(sums + (row - bands.row0) * pitch + n, broadcast(bias));
    }
  }

  void compute(int64_t vector0, int64_t vector1) {
    const int64_t panels = divide_up(vector1 - vector0, width), pitch = (vector1 - vector0) * L;
    start(pitch);
    for (int64_t k0 = 0; k0 < Site::steps; k0 += chunk) {
      list_rows(k0);
      Prefetch<chunk> ahead;
      Site::foresee(ahead, k0 + chunk, panels * bands.count);
      for (int64_t p = 0; p < panels; ++p) {
        const int64_t from = vector0 + part_start(vector1 - vector0, panels, p);
        const int64_t vectors = vector0 + part_start(vector1 - vector0, panels, p + 1) - from;
        fill_panel(Span<float>(from, vectors, job.batch), vectors);
        for (int64_t band = 0; band < bands.count; ++band) {
          const int64_t row = band * Engine::rows, rest = bands.row1 - bands.row0 - row, rows = rest < Engine::rows ? rest : Engine::rows;
          ahead.some();
          Engine::add(weights + row * weight_pitch, weight_pitch, panel, width * L, sums + row * pitch + (from - vector0) * L, pitch,
                      static_cast<int>(rows), static_cast<int>(vectors), pairs);
        }
      }
    }
    Site::write(sums, pitch, vector0, vector1);
  }
};

template <class Engine>
void pair_product_task(const ProductJob& job, int64_t task, void* memory) {
  const typename Engine::State state;
  PairProduct<Engine> product(job, task, memory);
  product.for_each_block(task, [&](int64_t vector0, int64_t vector1) { product.compute(vector0, vector1); });
}

template <class Engine>
size_t pair_product_scratch(const ProductJob& job) {
  return static_cast<size_t>(PairProduct<Engine>::scratch_size(job)) * sizeof(Pair);
}

template <class Engine>
constexpr ProductKernel pair_product = {pair_product_task<Engine>, pair_product_scratch<Engine>, Engine::rows, Engine::least_rows, false};

}  // namespace EFCN_ISA
}  // namespace efcn
