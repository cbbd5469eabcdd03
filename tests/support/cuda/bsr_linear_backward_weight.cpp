#include "emulator.h"

using Kernels = efcn::Weights;
EFCN_EMULATE(Kernels, WeightJob)
