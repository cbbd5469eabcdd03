#include "emulator.h"

using Kernels = efcn::Products<efcn::Along::depth>;
EFCN_EMULATE(Kernels, ProductJob)
