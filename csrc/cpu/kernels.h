// the table of one instruction set; isa_*.cpp define the macros and include this
#pragma once

#include "kernel_table.h"
#include "pack.h"
#include "pool.h"
#include "product.h"
#include "product_few.h"
#include "weight_dot.h"
#include "weight_window.h"

namespace efcn {
namespace EFCN_ISA {

// register-only multiply-adds: what no kernel can exceed
template <class T>
double spin(int64_t steps) {
  constexpr int chains = EFCN_REGISTERS >= 32 ? 24 : 12;
  Vec<T> acc[chains];
#pragma GCC unroll 24
  for (int i = 0; i < chains; ++i) acc[i] = broadcast(static_cast<T>(i));
  // opaque to the optimiser; |factor| < 1 keeps the sums finite
  T factor = static_cast<T>(0.5), term = static_cast<T>(1);
  asm volatile("" : "+m"(factor), "+m"(term));
  const Vec<T> f = broadcast(factor), t = broadcast(term);
  for (int64_t s = 0; s < steps; ++s) {
    // unrolled, for the chains to be registers
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) acc[i] = acc[i] * f + t;
  }
#pragma GCC unroll 24
  for (int i = 1; i < chains; ++i) acc[0] += acc[i];
  T out[lanes<T>];
  store(out, acc[0]);
  asm volatile("" : : "m"(out));
  return 2.0 * static_cast<double>(steps) * chains * lanes<T>;
}

template <class S>
constexpr Kernels kernels_of() {
  constexpr bool convert = sizeof(S) != sizeof(Compute<S>);
  Kernels k{};
  k.pack = pack_task<S, true>;
  k.unpack = pack_task<S, false>;
  k.product = k.narrow_product = product_kernel<S, Images::copied>;
  // what is converted is copied
  k.product_in_place = product_kernel < S, convert ? Images::copied : Images::in_place > ;
  if constexpr (!convert) k.few_product = {few_product_task<S>, few_product_scratch<S>, tile_rows, 0, false};
  k.weight_outer = {weight_outer_task<S>, weight_outer_scratch<S>};
  k.weight_window = {weight_window_task<S>, weight_window_scratch<S>};
  k.weight_dot = {weight_dot_task<S>, weight_dot_scratch};
  k.max_pool = max_pool_task<S>;
  k.max_pool_backward = max_pool_backward_task<S>;
  k.spin = spin<Compute<S>>;
  return k;
}

constexpr KernelTable make_table() {
  KernelTable table{EFCN_ISA_NAME, EFCN_VECTOR_BYTES, tile_rows, {}};
#define EFCN_DTYPE(name, stored, ...) table.rows.name = kernels_of<stored>();
  EFCN_EACH_DTYPE(EFCN_DTYPE)
#undef EFCN_DTYPE
  return table;
}

}  // namespace EFCN_ISA
}  // namespace efcn
