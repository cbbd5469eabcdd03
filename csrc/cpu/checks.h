// tensors -> Problem, refusing what the kernels cannot read; the contents of index arrays were checked when the layout was built
#pragma once

#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>

#include <torch/csrc/stable/tensor.h>

#include "bsr_linear.h"

namespace efcn {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class... Parts>
void require(bool good, const char* op, const Parts&... parts) {
  if (good) return;
  std::ostringstream message;
  message << "efcn_cpu::" << op << ": ";
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

inline std::string shape_of(const Tensor& t) {
  std::ostringstream text;
  text << "(";
  for (int64_t i = 0; i < t.dim(); ++i) text << (i ? ", " : "") << t.size(i);
  text << (t.dim() == 1 ? ",)" : ")");
  return text.str();
}

inline const char* name_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Half: return "float16";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Bool: return "bool";
    default: return "another type";
  }
}

inline Dtype dtype_of(const char* op, const char* name, const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return Dtype::f32;
    case ScalarType::Double: return Dtype::f64;
    case ScalarType::BFloat16: return Dtype::bf16;
    case ScalarType::Half: return Dtype::f16;
    default: require(false, op, name, " must be float32, float64, bfloat16 or float16, got ", name_of(t.scalar_type()));
  }
  return Dtype::f32;
}

// shape, type and device of one floating-point argument
inline void check_values(const char* op, const char* name, const Tensor& t, int64_t dim, const char* meaning, ScalarType type) {
  require(t.is_cpu(), op, name, " must be on the CPU");
  require(t.dim() == dim, op, name, " must be ", meaning, ", got shape ", shape_of(t));
  require(t.scalar_type() == type, op, name, " is ", name_of(t.scalar_type()), " but values is ", name_of(type), ": all must agree");
}

inline const int32_t* check_index(const char* op, const char* name, const Tensor& t, int64_t size, const char* meaning) {
  require(t.is_cpu(), op, name, " must be on the CPU");
  require(t.scalar_type() == ScalarType::Int, op, name, " must be int32, got ", name_of(t.scalar_type()));
  require(t.dim() == 1 && t.size(0) == size, op, name, " must have shape (", size, ",), ", meaning, ", got ", shape_of(t));
  require(size <= 1 || t.stride(0) == 1, op, name, " must be contiguous, got stride ", size > 1 ? t.stride(0) : 1);
  return static_cast<const int32_t*>(t.data_ptr());
}

// the memory of a tensor that lies beside the weights, element for element
inline void* check_beside(const char* op, const char* name, const Tensor& t, const Tensor& values, ScalarType type) {
  require(t.is_cpu(), op, name, " must be on the CPU");
  require(t.scalar_type() == type, op, name, " must be ", name_of(type), ", got ", name_of(t.scalar_type()));
  require(shape_of(t) == shape_of(values), op, name, " must have the shape of values, ", shape_of(values), ", got ", shape_of(t));
  require(t.is_contiguous(), op, name, " must be contiguous");
  return t.data_ptr();
}

// x and y may be gx and gy; either side of the pattern may be absent
struct Arguments {
  const char* op;
  const char* x_name;
  const Tensor* x;
  const char* y_name;
  const Tensor* y;
  const char* values_name;
  const Tensor* values;
  const std::optional<Tensor>* bias;
  const Tensor *crow, *col, *tcrow, *tcol, *tblock;
};

Problem check(const Arguments& args);

}  // namespace efcn
