// the arguments that the three ops share, checked
#pragma once

#include "operand.h"

namespace efcn {

struct Problem {
  Dtype dtype;
  int64_t batch, out_sites, in_sites, out_channels, in_channels, blocks;
  // x or gx, y or gy, values or gvalues; bias may be null
  View x, y;
  void* values;
  const void* bias;
  // by output site, and by input site
  Pattern by_output, by_input;
};

inline Operand x_operand(const Problem& p) { return {p.x, p.dtype, p.batch, p.in_sites, p.in_channels}; }
inline Operand y_operand(const Problem& p) { return {p.y, p.dtype, p.batch, p.out_sites, p.out_channels}; }

// what forward and backward_input share: target = bias + sum over the blocks of `pattern` of a @ source, with a_row and a_k the steps in
// values[block] from row to row of the target's channels and along the source's
void run_product(const Problem& p, const Pattern& pattern, const Operand& source, const Operand& target, int64_t a_row, int64_t a_k);

void bsr_linear(const Problem& p);
void bsr_linear_backward_input(const Problem& p);
// sgd: null, or the step that the gradients make on p.values
void bsr_linear_backward_weight(const Problem& p, const SgdJob* sgd = nullptr);

// tasks = sites x row parts x batch parts
inline void split_product(ProductJob& job, const KernelTable& table, const ProductKernel& kernel, Dtype dtype) {
  // rows of a task at most: what is computed together stays in the second-level cache
  const int64_t most_rows = 512;
  const int64_t wanted = wanted_tasks();
  const int64_t bands = divide_up(job.rows, kernel.band);
  const int64_t for_threads = divide_up(wanted, job.sites), for_cache = divide_up(job.rows, most_rows);
  const int64_t row_parts = for_threads > for_cache ? for_threads : for_cache;
  job.row_parts = row_parts < bands ? row_parts : bands;
  // four vectors are the width of a tile
  const int64_t widths = divide_up(job.batch, 4 * table.vector_bytes / compute_bytes(dtype));
  const int64_t batch_parts = divide_up(wanted, job.sites * job.row_parts);
  job.batch_parts = batch_parts < widths ? batch_parts : widths;
}

}  // namespace efcn
