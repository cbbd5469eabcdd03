// gvalues[block] = sum over n of gy[n, p, :] outer x[n, q, :]
#include "launch.h"

const char* efcn_cuda_bsr_linear_backward_weight(const efcn::WeightJob* job, efcn::Math math, efcn::Path path, void* stream) {
  return efcn::launch_best<efcn::Weights>(*job, math, path, stream);
}
