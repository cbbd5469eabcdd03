// the table of one instruction set; isa_*.cpp define the macros and include this
#pragma once

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

template <class T>
constexpr ProductKernel few_kernel() {
  return {few_product_task<T>, few_product_scratch<T>, tile_rows, 0, false};
}

static const KernelTable table = {
    EFCN_ISA_NAME,
    EFCN_VECTOR_BYTES,
    tile_rows,
    {pack_task<float, true>, pack_task<double, true>, pack_task<bf16, true>, pack_task<f16, true>},
    {pack_task<float, false>, pack_task<double, false>, pack_task<bf16, false>, pack_task<f16, false>},
    {product_kernel<float>, product_kernel<double>, product_kernel<bf16>, product_kernel<f16>},
    {product_kernel<float>, product_kernel<double>, product_kernel<bf16>, product_kernel<f16>},
    {few_kernel<float>(), few_kernel<double>(), {}, {}},
    {
        {{weight_outer_task<float>, weight_outer_scratch<float>},
         {weight_outer_task<double>, weight_outer_scratch<double>},
         {weight_outer_task<bf16>, weight_outer_scratch<bf16>},
         {weight_outer_task<f16>, weight_outer_scratch<f16>}},
        {{weight_window_task<float>, weight_window_scratch<float>},
         {weight_window_task<double>, weight_window_scratch<double>},
         {weight_window_task<bf16>, weight_window_scratch<bf16>},
         {weight_window_task<f16>, weight_window_scratch<f16>}},
        {{weight_dot_task<float>, weight_dot_scratch},
         {weight_dot_task<double>, weight_dot_scratch},
         {weight_dot_task<bf16>, weight_dot_scratch},
         {weight_dot_task<f16>, weight_dot_scratch}},
    },
    {max_pool_task<float>, max_pool_task<double>, max_pool_task<bf16>, max_pool_task<f16>},
    {max_pool_backward_task<float>, max_pool_backward_task<double>, max_pool_backward_task<bf16>, max_pool_backward_task<f16>},
    {spin<float>, spin<double>, spin<float>, spin<float>},
};

}  // namespace EFCN_ISA
}  // namespace efcn
