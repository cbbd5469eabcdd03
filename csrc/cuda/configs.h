// the kernels that are compiled, from the widest copies to single numbers and from the largest tile to the smallest; choose.h takes the
// first that fits. Tile sizes are unmeasured: no GPU was at hand
#pragma once

#include "config.h"

namespace efcn {

template <class Config>
struct Of {
  using type = Config;
};

template <class... Configs>
struct List {
  static constexpr int size = sizeof...(Configs);
  // visit(Of<Config>()) for each, in order
  template <class Visit>
  static void each(Visit visit) {
    (visit(Of<Configs>()), ...);
  }
};

template <class First, class Second>
struct Joined;
template <class... First, class... Second>
struct Joined<List<First...>, List<Second...>> {
  using type = List<First..., Second...>;
};

// 128 x 128 sums read 64 KB from L2 for 1 M products of 16-bit numbers; 64 x 32 is for few images and few programs
template <Math MATH, int K, int STAGES, Along A, int A_BYTES, Along B, int B_BYTES>
using Large = Config<MATH, true, 128, 128, K, 2, 4, STAGES, A, A_BYTES, B, B_BYTES>;
template <Math MATH, int K, int STAGES, Along A, int A_BYTES, Along B, int B_BYTES>
using Small = Config<MATH, true, 64, 32, K, 4, 1, STAGES, A, A_BYTES, B, B_BYTES>;
template <Math MATH, int N, Along A, Along B>
using OnCores =
    Config<MATH, false, 64, N, 16, 2, 2, 3, A, sizeof(typename Numbers<MATH>::Stored), B, sizeof(typename Numbers<MATH>::Stored)>;

// A_: how the blocks lie, depth forward and rows for grad-input. x in batch-last order lies along rows, in channels-last order along depth
template <Math MATH, Along A, int K>
using HalfProducts =
    List<Large<MATH, 32, 4, A, 16, Along::rows, 16>, Small<MATH, K, 4, A, 16, Along::rows, 16>, Large<MATH, 32, 4, A, 16, Along::rows, 4>,
         Small<MATH, K, 4, A, 16, Along::rows, 4>, Large<MATH, 32, 4, A, 16, Along::depth, 16>, Small<MATH, K, 4, A, 16, Along::depth, 16>,
         Small<MATH, K, 4, A, 2, Along::rows, 4>, Small<MATH, K, 4, A, 2, Along::rows, 2>>;
template <Along A>
using Tf32Products = List<Large<Math::tf32, 32, 3, A, 16, Along::rows, 16>, Small<Math::tf32, 32, 4, A, 16, Along::rows, 16>,
                          Large<Math::tf32, 32, 3, A, 16, Along::depth, 16>, Small<Math::tf32, 32, 4, A, 16, Along::depth, 16>,
                          Small<Math::tf32, 32, 4, A, 4, Along::rows, 16>, Small<Math::tf32, 32, 4, A, 4, Along::rows, 4>>;
template <Along A>
using CoreProducts =
    List<OnCores<Math::f32, 64, A, Along::depth>, OnCores<Math::f32, 64, A, Along::rows>, OnCores<Math::f64, 32, A, Along::depth>,
         OnCores<Math::f64, 32, A, Along::rows>, OnCores<Math::bf16, 64, A, Along::depth>, OnCores<Math::bf16, 64, A, Along::rows>,
         OnCores<Math::f16, 64, A, Along::depth>, OnCores<Math::f16, 64, A, Along::rows>>;

template <Along A>
using Products = typename Joined<typename Joined<HalfProducts<Math::bf16, A, 64>, HalfProducts<Math::f16, A, 64>>::type,
                                 typename Joined<Tf32Products<A>, CoreProducts<A>>::type>::type;

// both operands of grad-weight lie along the depth, the images, in batch-last order, along rows in channels-last order
template <Math MATH>
using HalfWeights = List<Large<MATH, 32, 4, Along::depth, 16, Along::depth, 16>, Small<MATH, 64, 4, Along::depth, 16, Along::depth, 16>,
                         Large<MATH, 32, 4, Along::rows, 16, Along::rows, 16>, Small<MATH, 64, 4, Along::rows, 16, Along::rows, 16>,
                         Large<MATH, 32, 4, Along::depth, 4, Along::depth, 4>, Small<MATH, 64, 4, Along::depth, 4, Along::depth, 4>,
                         Small<MATH, 64, 4, Along::depth, 2, Along::depth, 2>>;
using Tf32Weights =
    List<Large<Math::tf32, 32, 3, Along::depth, 16, Along::depth, 16>, Small<Math::tf32, 32, 4, Along::depth, 16, Along::depth, 16>,
         Large<Math::tf32, 32, 3, Along::rows, 16, Along::rows, 16>, Small<Math::tf32, 32, 4, Along::rows, 16, Along::rows, 16>,
         Small<Math::tf32, 32, 4, Along::depth, 4, Along::depth, 4>>;
using CoreWeights = List<OnCores<Math::f32, 64, Along::depth, Along::depth>, OnCores<Math::f64, 32, Along::depth, Along::depth>,
                         OnCores<Math::bf16, 64, Along::depth, Along::depth>, OnCores<Math::f16, 64, Along::depth, Along::depth>>;
using Weights = typename Joined<typename Joined<HalfWeights<Math::bf16>, HalfWeights<Math::f16>>::type,
                                typename Joined<Tf32Weights, CoreWeights>::type>::type;

}  // namespace efcn
