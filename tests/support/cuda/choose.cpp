// which kernels there are for each op, which of them can take a problem and which would; for ctypes
#include "choose.h"
#include "numbered.h"

namespace efcn {

// what is known of a compiled kernel
struct Traits {
  int32_t math, units, m, n, k, stages, threads, a_rows, a_bytes, b_rows, b_bytes;
};

template <class Kernels>
Traits traits_of(int number) {
  Traits found{};
  with<Kernels>(number, [&](auto of) {
    using C = typename decltype(of)::type;
    found = {static_cast<int>(C::math),  C::units,  C::M, C::N, C::K, C::stages, C::threads, C::A::along == Along::rows, C::a_bytes,
             C::B::along == Along::rows, C::b_bytes};
  });
  return found;
}

template <class Kernels, class Job>
bool fitting(const Job& job, int number) {
  bool found = false;
  with<Kernels>(number, [&](auto of) { found = fits<typename decltype(of)::type>(job); });
  return found;
}

}  // namespace efcn

#define EFCN_CHOOSE(op, Kernels, Job)                                                                  \
  extern "C" {                                                                                         \
  int op##_kernels() { return Kernels::size; }                                                         \
  efcn::Traits op##_traits(int number) { return efcn::traits_of<Kernels>(number); }                    \
  bool op##_fitting(const efcn::Job* job, int number) { return efcn::fitting<Kernels>(*job, number); } \
  int op##_chosen(const efcn::Job* job, int math, int path) {                                          \
    return efcn::choose<Kernels>(*job, static_cast<efcn::Math>(math), static_cast<efcn::Path>(path));  \
  }                                                                                                    \
  }

EFCN_CHOOSE(bsr_linear, efcn::Products<efcn::Along::depth>, ProductJob)
EFCN_CHOOSE(bsr_linear_backward_input, efcn::Products<efcn::Along::rows>, ProductJob)
EFCN_CHOOSE(bsr_linear_backward_weight, efcn::Weights, WeightJob)
