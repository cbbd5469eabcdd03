#pragma once

#include "dtype.h"

namespace efcn {

// floating-point operations per second of all torch threads together, from registers alone: the best of the repeats that fit into
// `seconds`
double fma_peak(Dtype dtype, double seconds);

}  // namespace efcn
