#include "emulator.h"

using Kernels = efcn::Products<efcn::Along::rows>;
EFCN_EMULATE(Kernels, ProductJob)
