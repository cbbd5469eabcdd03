// what AVX-512 gains by matrix tiles for bfloat16
#define EFCN_ISA isa_amx
#define EFCN_REGISTERS 32
#define EFCN_TILE_ROWS 6
#define EFCN_VECTOR_BYTES 64

#include "product_pairs.h"
#include "weight_pairs.h"

namespace efcn {
namespace EFCN_ISA {

// palette 1: eight tiles of 16 rows of 64 bytes. In memory, not on the stack: compilers do not see that the instruction reads all of it
struct Shapes {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static const Shapes shapes = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

// 32 rows x 32 lanes in four tiles of sums; a tile of weights is 16 rows of 16 pairs, one of a panel 16 pairs of 16 lanes
struct Matrix {
  // 384 steps of a panel are 24 KiB, and so are 32 rows of weights
  static constexpr int64_t chunk = 384, rows = 32, width = 2, steps = 32;
  // fewer would leave most of a tile empty: 64->3 took 13.5 ms in tiles and 11.4 converted
  static constexpr int64_t least_rows = 9;

  // the tiles' shapes, for as long as a task runs
  struct State {
    State() { _tile_loadconfig(&shapes); }
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() { _tile_release(); }
  };

  // whether the second rows and the second lanes of the four tiles are there
  template <bool Low, bool Right>
  static void add_tiles(const Pair* a, int64_t a_row, const Pair* b, int64_t b_row, float* c, int64_t c_row, int64_t pairs) {
    const int64_t a_bytes = a_row * 4, b_bytes = b_row * 4, c_bytes = c_row * 4;
    float* const low = c + 16 * c_row;
    _tile_loadd(0, c, c_bytes);
    if constexpr (Right) _tile_loadd(1, c + 16, c_bytes);
    if constexpr (Low) _tile_loadd(2, low, c_bytes);
    if constexpr (Low && Right) _tile_loadd(3, low + 16, c_bytes);
    for (int64_t p = 0; p < pairs; p += 16) {
      _tile_loadd(4, a + p, a_bytes);
      _tile_loadd(6, b + p * b_row, b_bytes);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (Right) {
        _tile_loadd(7, b + p * b_row + 16, b_bytes);
        _tile_dpbf16ps(1, 4, 7);
      }
      if constexpr (Low) {
        _tile_loadd(5, a + 16 * a_row + p, a_bytes);
        _tile_dpbf16ps(2, 5, 6);
      }
      if constexpr (Low && Right) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_bytes);
    if constexpr (Right) _tile_stored(1, c + 16, c_bytes);
    if constexpr (Low) _tile_stored(2, low, c_bytes);
    if constexpr (Low && Right) _tile_stored(3, low + 16, c_bytes);
  }

  // c[r][n] += sum of pairs a[r][p] . b[p][n]; rows beyond the last are computed as well, so there must be room up to the next 16
  static void add(const Pair* a, int64_t a_row, const Pair* b, int64_t b_row, float* c, int64_t c_row, int height, int vectors,
                  int64_t pairs) {
    if (height > 16 && vectors > 1) return add_tiles<true, true>(a, a_row, b, b_row, c, c_row, pairs);
    if (height > 16) return add_tiles<true, false>(a, a_row, b, b_row, c, c_row, pairs);
    if (vectors > 1) return add_tiles<false, true>(a, a_row, b, b_row, c, c_row, pairs);
    add_tiles<false, false>(a, a_row, b, b_row, c, c_row, pairs);
  }
};

// a product of tiles is 16 x 16 sums of 32 products
static double spin_tiles(int64_t steps) {
  const Matrix::State state;
  alignas(64) static const Pair zeros[16 * 16] = {};
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, zeros, 64);
  _tile_loadd(5, zeros, 64);
  _tile_loadd(6, zeros, 64);
  _tile_loadd(7, zeros, 64);
  const int64_t rounds = divide_up(steps, 16);
  for (int64_t s = 0; s < rounds; ++s) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  return 2.0 * static_cast<double>(rounds) * 4 * 16 * 16 * 32;
}

}  // namespace EFCN_ISA

constexpr PairKernels pairs_amx = {"amx", EFCN_ISA::pair_product<EFCN_ISA::Matrix>, EFCN_ISA::pair_weight<EFCN_ISA::Matrix>,
                                   EFCN_ISA::spin_tiles};

}  // namespace efcn
