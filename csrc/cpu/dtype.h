// the types of numbers that the kernels compute
#pragma once

#include <cstdint>

namespace efcn {

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

// the one list of them: a name, the type that stores a number, the one that it is computed in, torch's name. Whatever there is for each
// dtype is made from it, by name
#define EFCN_EACH_DTYPE(DO)       \
  DO(f32, float, float, Float)    \
  DO(f64, double, double, Double) \
  DO(bf16, bf16, float, BFloat16) \
  DO(f16, f16, float, Half)

#define EFCN_DTYPE(name, ...) name,
enum class Dtype : int { EFCN_EACH_DTYPE(EFCN_DTYPE) };
#undef EFCN_DTYPE

// of a storage type; one that is not in the list has none, so that it does not compile
template <class S>
struct ComputeOf;
#define EFCN_DTYPE(name, stored, computed, ...) \
  template <>                                   \
  struct ComputeOf<stored> {                    \
    using type = computed;                      \
  };
EFCN_EACH_DTYPE(EFCN_DTYPE)
#undef EFCN_DTYPE
template <class S>
using Compute = typename ComputeOf<S>::type;

template <class Row>
struct ByDtype {
#define EFCN_DTYPE(name, ...) Row name;
  EFCN_EACH_DTYPE(EFCN_DTYPE)
#undef EFCN_DTYPE

  const Row& operator[](Dtype dtype) const {
    switch (dtype) {
#define EFCN_DTYPE(name, ...) \
  case Dtype::name: return this->name;
      EFCN_EACH_DTYPE(EFCN_DTYPE)
#undef EFCN_DTYPE
    }
    __builtin_unreachable();
  }
};

}  // namespace efcn
