// which kernels run: by two axes, the instruction set and the tuning
#pragma once

#include <string>

#include "kernel_table.h"

namespace efcn {

// the table in use; the first call obeys EFCN_CPU_ISA and EFCN_CPU_TUNING and throws if one names nothing that runs here
const KernelTable& kernels();

// where products of the table in use find their images: copied or in_place
const char* tuning();

// comma-separated names, lowest first: compiled in and runnable on this CPU
std::string available_isas();

// comma-separated names; every instruction set has all of them
std::string available_tunings();

// throws std::runtime_error, naming what is available, for any other name
void force_isa(const std::string& name);

// the same for the tuning, whatever the instruction set; "" leaves it to the machine. Returns what was forced before, or ""
std::string force_tuning(const std::string& name);

}  // namespace efcn
