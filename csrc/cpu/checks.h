// tensors -> Problem
#pragma once

#include "../common/checks.h"
#include "bsr_linear.h"

namespace efcn {

// the memory of a tensor that lies beside the weights, element for element
void* check_beside(const char* op, const char* name, const Tensor& t, const Tensor& values, ScalarType type);

Problem problem_of(const Arguments& args);

// height and width
struct Extents {
  int64_t height, width;
};

// x, y and taps (height, width, columns), contiguous
struct PoolArguments {
  const char* op;
  const char* x_name;
  const Tensor& x;
  const char* y_name;
  const Tensor& y;
  const Tensor& taps;
  Extents kernel, stride, padding, dilation;
};

PoolJob pool_of(const PoolArguments& args);

// throws std::invalid_argument for a type that is not in dtype.h
Dtype dtype_of(ScalarType type);

// torch's, comma-separated
std::string dtype_names();

}  // namespace efcn
