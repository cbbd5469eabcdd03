// max-pooling of batch-last images, and its gradient
#pragma once

#include "dtype.h"
#include "problem.h"

namespace efcn {

// y and taps of x
void max_pool(const PoolJob& job, Dtype dtype);

// x, the gradient, of y, that of the results, and their taps
void max_pool_backward(const PoolJob& job, Dtype dtype);

}  // namespace efcn
