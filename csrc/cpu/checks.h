// tensors -> Problem
#pragma once

#include "../common/checks.h"
#include "bsr_linear.h"

namespace efcn {

// the memory of a tensor that lies beside the weights, element for element
void* check_beside(const char* op, const char* name, const Tensor& t, const Tensor& values, ScalarType type);

Problem problem_of(const Arguments& args);

}  // namespace efcn
