// gx[n, q, :] = sum over blocks (p, q) of values[block]^T @ gy[n, p, :]
#include "launch.h"

const char* efcn_cuda_bsr_linear_backward_input(const efcn::ProductJob* job, efcn::Math math, efcn::Path path, void* stream) {
  return efcn::launch_best<efcn::Products<efcn::Along::rows>>(*job, math, path, stream);
}
