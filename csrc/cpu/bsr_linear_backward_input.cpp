// gx[n, q, :] = sum over blocks (p, q) of transposed(values[block]) @ gy[n, p, :]
#include "bsr_linear.h"

namespace efcn {

void bsr_linear_backward_input(const Problem& p) { run_product(p, p.by_input, y_operand(p), x_operand(p), 1, p.in_channels); }

}  // namespace efcn
