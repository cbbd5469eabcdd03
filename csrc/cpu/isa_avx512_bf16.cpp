// what AVX-512 gains by dot products of pairs of bfloat16, as AMD's cores have them since Zen 4
#define EFCN_ISA isa_avx512_bf16
#define EFCN_REGISTERS 32
#define EFCN_TILE_ROWS 6
#define EFCN_VECTOR_BYTES 64

#include "product_pairs.h"
#include "weight_pairs.h"

namespace efcn {
namespace EFCN_ISA {

template <>
struct MultiplyAdd<float, Pair> {
  EFCN_INLINE Vec<float> of(Vec<float> sum, Vec<Pair> w, Vec<Pair> x) { return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x); }
};

struct Dot {
  static constexpr int64_t chunk = 192, rows = tile_rows, width = tile_vectors(tile_rows), steps = 2, least_rows = tile_rows;

  struct State {
    // user-provided, for nothing to be called unused
    State() {}
  };

  static void add(const Pair* a, int64_t a_row, const Pair* b, int64_t b_row, float* c, int64_t c_row, int height, int vectors,
                  int64_t pairs) {
    const Segment<Pair> segment{a, b, pairs};
    const int64_t last = (vectors - 1) * lanes<float>;
    const Tile<float, Pair> tile{&segment, 1, a_row, 1, b_row, last, c, c_row, last, nullptr, lanes<float>};
    choose_tile<float, Pair>(height, vectors)(tile);
  }
};

static double spin_pairs(int64_t steps) {
  constexpr int chains = 24;
  // all different, or one chain would stand for all
  Vec<float> acc[chains];
#pragma GCC unroll 24
  for (int i = 0; i < chains; ++i) acc[i] = broadcast(static_cast<float>(i));
  Pair ones = 0x3f803f80;
  asm volatile("" : "+m"(ones));
  const Vec<Pair> w = broadcast(ones);
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) acc[i] = MultiplyAdd<float, Pair>::of(acc[i], w, w);
  }
#pragma GCC unroll 24
  for (int i = 1; i < chains; ++i) acc[0] += acc[i];
  float out[lanes<float>];
  store(out, acc[0]);
  asm volatile("" : : "m"(out));
  return 4.0 * static_cast<double>(steps) * chains * lanes<float>;
}

}  // namespace EFCN_ISA

constexpr PairKernels pairs_avx512_bf16 = {"avx512_bf16", EFCN_ISA::pair_product<EFCN_ISA::Dot>, EFCN_ISA::pair_weight<EFCN_ISA::Dot>,
                                           EFCN_ISA::spin_pairs};

}  // namespace efcn
