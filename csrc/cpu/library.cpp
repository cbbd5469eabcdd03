// binds the CPU kernels to torch.ops.efcn_cpu; outputs are allocated by the caller and overwritten entirely
#include <string>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "checks.h"
#include "dispatch.h"
#include "max_pool.h"
#include "peak.h"

namespace efcn {
namespace {

void forward(Tensor y, Tensor x, Tensor values, std::optional<Tensor> bias, Tensor crow, Tensor col) {
  bsr_linear(problem_of({"efcn_cpu::bsr_linear", "x", &x, "y", &y, "values", &values, &bias, &crow, &col, nullptr, nullptr, nullptr}));
}

void backward_input(Tensor gx, Tensor gy, Tensor values, Tensor tcrow, Tensor tcol, Tensor tblock) {
  bsr_linear_backward_input(problem_of(
      {"efcn_cpu::bsr_linear_backward_input", "gx", &gx, "gy", &gy, "values", &values, nullptr, nullptr, nullptr, &tcrow, &tcol, &tblock}));
}

void backward_weight(Tensor gvalues, Tensor gy, Tensor x, Tensor crow, Tensor col, Tensor tcrow, Tensor tcol, Tensor tblock) {
  bsr_linear_backward_weight(problem_of(
      {"efcn_cpu::bsr_linear_backward_weight", "x", &x, "gy", &gy, "gvalues", &gvalues, nullptr, &crow, &col, &tcrow, &tcol, &tblock}));
}

void backward_weight_sgd(Tensor values, std::optional<Tensor> momentum_buffer, Tensor gy, Tensor x, std::optional<Tensor> mask, double lr,
                         double momentum, double weight_decay, bool nesterov, Tensor crow, Tensor col, Tensor tcrow, Tensor tcol,
                         Tensor tblock) {
  const char* op = "efcn_cpu::bsr_linear_backward_weight_sgd";
  const Problem p = problem_of({op, "x", &x, "gy", &gy, "values", &values, nullptr, &crow, &col, &tcrow, &tcol, &tblock});
  require(p.batch > 0, op, "an empty batch makes no gradient to step by, got x ", shape_of(x));
  SgdJob sgd{};
  if (momentum_buffer) sgd.momentum_buffer = check_beside(op, "momentum_buffer", *momentum_buffer, values, values.scalar_type());
  if (mask) sgd.mask = static_cast<const bool*>(check_beside(op, "mask", *mask, values, ScalarType::Bool));
  sgd.lr = lr;
  sgd.momentum = momentum;
  sgd.weight_decay = weight_decay;
  sgd.nesterov = nesterov;
  bsr_linear_backward_weight(p, &sgd);
}

void pool(Tensor y, Tensor taps, Tensor x, int64_t kernel_h, int64_t kernel_w, int64_t stride_h, int64_t stride_w, int64_t padding_h,
          int64_t padding_w, int64_t dilation_h, int64_t dilation_w) {
  const PoolJob job = pool_of({"efcn_cpu::max_pool",
                               "x",
                               x,
                               "y",
                               y,
                               taps,
                               {kernel_h, kernel_w},
                               {stride_h, stride_w},
                               {padding_h, padding_w},
                               {dilation_h, dilation_w}});
  max_pool(job, dtype_of(x.scalar_type()));
}

void pool_backward(Tensor gx, Tensor gy, Tensor taps, int64_t kernel_h, int64_t kernel_w, int64_t stride_h, int64_t stride_w,
                   int64_t padding_h, int64_t padding_w, int64_t dilation_h, int64_t dilation_w) {
  const PoolJob job = pool_of({"efcn_cpu::max_pool_backward",
                               "gx",
                               gx,
                               "gy",
                               gy,
                               taps,
                               {kernel_h, kernel_w},
                               {stride_h, stride_w},
                               {padding_h, padding_w},
                               {dilation_h, dilation_w}});
  max_pool_backward(job, dtype_of(gx.scalar_type()));
}

void prefer_large_pages_of(Tensor t) {
  prefer_large_pages(t.data_ptr(), static_cast<size_t>(t.numel() * storage_bytes(dtype_of(t.scalar_type()))));
}

std::string isa() { return kernels().name; }

std::string isas() { return available_isas(); }

void set_isa(std::string name) { force_isa(name); }

std::string tuning_name() { return tuning(); }

std::string tunings() { return available_tunings(); }

std::string set_tuning(std::string name) { return force_tuning(name); }

// rows of the largest register tile, bytes of a vector
std::tuple<int64_t, int64_t> tile() { return {kernels().tile_rows, kernels().vector_bytes}; }

double peak(ScalarType type, double seconds) { return fma_peak(dtype_of(type), seconds); }

}  // namespace
}  // namespace efcn

STABLE_TORCH_LIBRARY_FRAGMENT(efcn_cpu, m) {
  m.def("bsr_linear(Tensor(a!) y, Tensor x, Tensor values, Tensor? bias, Tensor crow, Tensor col) -> ()");
  m.def(
      "bsr_linear_backward_input(Tensor(a!) gx, Tensor gy, Tensor values, Tensor tcrow, Tensor tcol, "
      "Tensor tblock) -> ()");
  m.def(
      "bsr_linear_backward_weight(Tensor(a!) gvalues, Tensor gy, Tensor x, Tensor crow, Tensor col, "
      "Tensor tcrow, Tensor tcol, Tensor tblock) -> ()");
  m.def(
      "bsr_linear_backward_weight_sgd(Tensor(a!) values, Tensor(b!)? momentum_buffer, Tensor gy, Tensor x, Tensor? mask, float lr, "
      "float momentum, float weight_decay, bool nesterov, Tensor crow, Tensor col, Tensor tcrow, Tensor tcol, Tensor tblock) -> ()");
  m.def(
      "max_pool(Tensor(a!) y, Tensor(b!) taps, Tensor x, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, "
      "int padding_w, int dilation_h, int dilation_w) -> ()");
  m.def(
      "max_pool_backward(Tensor(a!) gx, Tensor gy, Tensor taps, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, "
      "int padding_w, int dilation_h, int dilation_w) -> ()");
  m.def("prefer_large_pages(Tensor(a!) t) -> ()");
  m.def("isa() -> str");
  m.def("isas() -> str");
  m.def("set_isa(str name) -> ()");
  m.def("tuning() -> str");
  m.def("tunings() -> str");
  m.def("set_tuning(str name) -> str");
  m.def("tile() -> (int, int)");
  m.def("dtypes() -> str");
  m.def("fma_peak(ScalarType dtype, float seconds) -> float");
}

STABLE_TORCH_LIBRARY_IMPL(efcn_cpu, CPU, m) {
  m.impl("max_pool", TORCH_BOX(&efcn::pool));
  m.impl("max_pool_backward", TORCH_BOX(&efcn::pool_backward));
  m.impl("prefer_large_pages", TORCH_BOX(&efcn::prefer_large_pages_of));
  m.impl("bsr_linear", TORCH_BOX(&efcn::forward));
  m.impl("bsr_linear_backward_input", TORCH_BOX(&efcn::backward_input));
  m.impl("bsr_linear_backward_weight", TORCH_BOX(&efcn::backward_weight));
  m.impl("bsr_linear_backward_weight_sgd", TORCH_BOX(&efcn::backward_weight_sgd));
}

STABLE_TORCH_LIBRARY_IMPL(efcn_cpu, CompositeExplicitAutograd, m) {
  m.impl("isa", TORCH_BOX(&efcn::isa));
  m.impl("isas", TORCH_BOX(&efcn::isas));
  m.impl("set_isa", TORCH_BOX(&efcn::set_isa));
  m.impl("tuning", TORCH_BOX(&efcn::tuning_name));
  m.impl("tunings", TORCH_BOX(&efcn::tunings));
  m.impl("set_tuning", TORCH_BOX(&efcn::set_tuning));
  m.impl("tile", TORCH_BOX(&efcn::tile));
  m.impl("dtypes", TORCH_BOX(&efcn::dtype_names));
  m.impl("fma_peak", TORCH_BOX(&efcn::peak));
}
