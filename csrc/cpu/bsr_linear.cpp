// y[n, p, :] = bias[p, :] + sum over blocks (p, q) of values[block] @ x[n, q, :]
#include "bsr_linear.h"

#include "dispatch.h"

namespace efcn {

void run_product(const Problem& p, const Pattern& pattern, const Operand& source, const Operand& target, int64_t a_row, int64_t a_k) {
  if (target.batch == 0 || target.sites == 0 || target.channels == 0) return;
  const KernelTable& table = kernels();
  const Rows b(table, source, Rows::Use::input);
  const Rows c(table, target, Rows::Use::output);
  ProductJob job{};
  job.pattern = pattern;
  job.values = p.values;
  job.value_count = p.blocks * p.out_channels * p.in_channels;
  job.bias = p.bias;
  job.rows = target.channels;
  job.depth = source.channels;
  job.block_size = p.out_channels * p.in_channels;
  job.a_row = a_row;
  job.a_k = a_k;
  job.b = b.data;
  job.b_site = b.site;
  job.b_channel = b.channel;
  job.c = c.data;
  job.c_site = c.site;
  job.c_channel = c.channel;
  job.batch = target.batch;
  job.sites = target.sites;
  const int type = static_cast<int>(p.dtype);
  const ProductKernel& kernel = job.rows < table.product[type].least_rows ? table.narrow_product[type] : table.product[type];
  split_product(job, table, kernel, p.dtype);
  run_tasks(target.sites * job.row_parts * job.batch_parts, kernel.scratch(job),
            [&](int64_t task, void* scratch) { kernel.run(job, task, scratch); });
  c.finish();
}

void bsr_linear(const Problem& p) { run_product(p, p.by_output, x_operand(p), y_operand(p), p.in_channels, 1); }

}  // namespace efcn
