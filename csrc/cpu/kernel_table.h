// tables of kernels, one for each instruction set: plain constant data, so that nothing of it runs before the CPU has been asked
#pragma once

#include "dtype.h"
#include "problem.h"

namespace efcn {

using PoolTask = void (*)(const PoolJob&, int64_t task);
using PackTask = void (*)(const PackJob&, int64_t task);
using ProductTask = void (*)(const ProductJob&, int64_t task, void* scratch);
using WeightTask = void (*)(const WeightJob&, int64_t task, void* scratch);
// runs `steps` rounds of register-only multiply-adds; returns how many floating-point operations that were
using Spin = double (*)(int64_t steps);

struct ProductKernel {
  ProductTask run;
  size_t (*scratch)(const ProductJob&);
  // rows computed together: row parts are whole numbers of them
  int64_t band;
  int64_t least_rows;
  // whether it takes groups of sites
  bool groups;
};

struct WeightKernel {
  WeightTask run;
  size_t (*scratch)(const WeightJob&);
};

// where a product finds its images: what a micro-architecture decides within its instruction set (see tuning.h)
enum class Images : int { copied, in_place };

// those of one dtype
struct Kernels {
  PackTask pack, unpack;
  ProductKernel product;
  // takes its place where the images are read in place
  ProductKernel product_in_place;
  // for fewer rows than `least_rows` of the product's
  ProductKernel narrow_product;
  // for at most most_few images and whole vectors of weights; none for converted types
  ProductKernel few_product;
  // outer has tasks by input site, the others by output site
  WeightKernel weight_outer, weight_window, weight_dot;
  PoolTask max_pool, max_pool_backward;
  // of what the type is multiplied in
  Spin spin;
};

struct KernelTable {
  const char* name;
  int64_t vector_bytes;
  // rows of the largest register tile
  int64_t tile_rows;
  ByDtype<Kernels> rows;
};

// what a feature for bfloat16 adds to AVX-512, under a name of its own
struct PairKernels {
  const char* name;
  ProductKernel product;
  WeightKernel weight_outer;
  Spin spin;
};

extern const KernelTable kernels_base, kernels_avx2, kernels_avx512;
extern const PairKernels pairs_avx512_bf16, pairs_amx;

}  // namespace efcn
