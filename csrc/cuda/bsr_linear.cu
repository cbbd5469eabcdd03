// y[n, p, :] = bias[p, :] + sum over blocks (p, q) of values[block] @ x[n, q, :]
#include "launch.h"

const char* efcn_cuda_bsr_linear(const efcn::ProductJob* job, efcn::Math math, efcn::Path path, void* stream) {
  return efcn::launch_best<efcn::Products<efcn::Along::depth>>(*job, math, path, stream);
}
