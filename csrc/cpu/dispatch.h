// which instruction set runs
#pragma once

#include <string>

#include "problem.h"

namespace efcn {

// the table in use; the first call obeys EFCN_CPU_ISA and throws if that names nothing that runs here
const KernelTable& kernels();

// comma-separated names, lowest first: compiled in and runnable on this CPU
std::string available_isas();

// throws std::runtime_error, naming what is available, for any other name
void force_isa(const std::string& name);

}  // namespace efcn
