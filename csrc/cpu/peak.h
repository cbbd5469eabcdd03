#pragma once

namespace efcn {

// floating-point operations per second of all torch threads together, from registers alone: the best of the repeats that fit into
// `seconds`
double fma_peak(bool float64, double seconds);

}  // namespace efcn
