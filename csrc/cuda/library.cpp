// binds the CUDA kernels to torch.ops.efcn_cuda; outputs are allocated by the caller and overwritten entirely
#include <torch/csrc/stable/library.h>

#include "../common/checks.h"
#include "job.h"

// torch's header hides it where CUDA's own headers are not there to be read; it is in libtorch_cuda
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace efcn {
namespace {

View view_of(const Tensor& t) { return {t.data_ptr(), t.stride(0), t.stride(1), t.stride(2)}; }

Math math_of(ScalarType type, bool tf32) {
  switch (type) {
    case ScalarType::Double: return Math::f64;
    case ScalarType::BFloat16: return Math::bf16;
    case ScalarType::Half: return Math::f16;
    case ScalarType::Float: return tf32 ? Math::tf32 : Math::f32;
    default: throw std::invalid_argument(std::string("no kernel of efcn_cuda computes ") + name_of(type));
  }
}

Path path_of(const char* op, int64_t path) {
  require(0 <= path && path <= static_cast<int64_t>(Path::matrix_units), op,
          "path must be 0 (any), 1 (CUDA cores) or 2 (matrix units), got ", path);
  return static_cast<Path>(path);
}

// the kernels count images, and numbers of the windows of up to eight members, in 32 bits
Checked checked(const Arguments& args) {
  const Checked c = check(args, Place::cuda);
  constexpr int64_t most = int64_t{1} << 28;
  require(c.batch < most && c.in_sites * c.in_channels < most && c.out_sites * c.out_channels < most, args.op,
          "takes fewer than 2^28 images, and fewer than 2^28 features on each side, got ", shapes_of(args));
  return c;
}

// launches on torch's current stream of the device of the arguments, which the caller has made the current one
template <class Job>
void launch(const char* (*kernel)(const Job*, Math, Path, void*), const Job& job, const Arguments& args, int64_t path, bool tf32) {
  const Math math = math_of(args.values->scalar_type(), tf32);
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(args.values->get_device_index(), &stream));
  const char* wrong = kernel(&job, math, path_of(args.op, path), stream);
  if (wrong == nullptr) return;
  std::ostringstream message;
  message << args.op << ": " << wrong << "; " << shapes_of(args) << ", " << name_of(args.values->scalar_type()) << ", path " << path;
  throw std::runtime_error(message.str());
}

void forward(Tensor y, Tensor x, Tensor values, std::optional<Tensor> bias, Tensor crow, Tensor col, int64_t path, bool tf32) {
  const Arguments args{"efcn_cuda::bsr_linear", "x", &x, "y", &y, "values", &values, &bias, &crow, &col, nullptr, nullptr, nullptr};
  const Checked c = checked(args);
  if (y.numel() == 0) return;
  ProductJob job{};
  job.y = view_of(y), job.x = view_of(x), job.values = c.values, job.bias = c.bias;
  job.begin = c.by_output.start, job.source = c.by_output.source;
  job.batch = c.batch, job.rows = c.out_sites, job.out = c.out_channels, job.in = c.in_channels, job.entries = c.blocks;
  job.a_out = c.in_channels, job.a_in = 1;
  launch(efcn_cuda_bsr_linear, job, args, path, tf32);
}

void backward_input(Tensor gx, Tensor gy, Tensor values, Tensor tcrow, Tensor tcol, Tensor tblock, int64_t path, bool tf32) {
  const Arguments args{
      "efcn_cuda::bsr_linear_backward_input", "gx", &gx, "gy", &gy, "values", &values, nullptr, nullptr, nullptr, &tcrow, &tcol, &tblock};
  const Checked c = checked(args);
  if (gx.numel() == 0) return;
  ProductJob job{};
  job.y = view_of(gx), job.x = view_of(gy), job.values = c.values;
  job.begin = c.by_input.start, job.source = c.by_input.source, job.number = c.by_input.block;
  job.batch = c.batch, job.rows = c.in_sites, job.out = c.in_channels, job.in = c.out_channels, job.entries = c.blocks;
  job.a_out = 1, job.a_in = c.in_channels;
  launch(efcn_cuda_bsr_linear_backward_input, job, args, path, tf32);
}

void backward_weight(Tensor gvalues, Tensor gy, Tensor x, Tensor crow, Tensor col, int64_t path, bool tf32) {
  const Arguments args{
      "efcn_cuda::bsr_linear_backward_weight", "x", &x, "gy", &gy, "gvalues", &gvalues, nullptr, &crow, &col, nullptr, nullptr, nullptr};
  const Checked c = checked(args);
  if (gvalues.numel() == 0) return;
  WeightJob job{};
  job.gvalues = c.values, job.gy = view_of(gy), job.x = view_of(x);
  job.begin = c.by_output.start, job.source = c.by_output.source;
  job.batch = c.batch, job.rows = c.out_sites, job.out = c.out_channels, job.in = c.in_channels, job.entries = c.blocks;
  launch(efcn_cuda_bsr_linear_backward_weight, job, args, path, tf32);
}

}  // namespace
}  // namespace efcn

// path: which kernels may be taken, as in job.h; tf32: whether float32 is multiplied on the matrix units
STABLE_TORCH_LIBRARY_FRAGMENT(efcn_cuda, m) {
  m.def("bsr_linear(Tensor(a!) y, Tensor x, Tensor values, Tensor? bias, Tensor crow, Tensor col, int path, bool tf32) -> ()");
  m.def(
      "bsr_linear_backward_input(Tensor(a!) gx, Tensor gy, Tensor values, Tensor tcrow, Tensor tcol, Tensor tblock, int path, "
      "bool tf32) -> ()");
  m.def("bsr_linear_backward_weight(Tensor(a!) gvalues, Tensor gy, Tensor x, Tensor crow, Tensor col, int path, bool tf32) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(efcn_cuda, CUDA, m) {
  m.impl("bsr_linear", TORCH_BOX(&efcn::forward));
  m.impl("bsr_linear_backward_input", TORCH_BOX(&efcn::backward_input));
  m.impl("bsr_linear_backward_weight", TORCH_BOX(&efcn::backward_weight));
}
