// y[n, p, :] = bias[p, :] + sum over blocks (p, q) of values[block] @ x[n, q, :]
#include "bsr_linear.h"

#include "dispatch.h"

namespace efcn {

void bsr_linear(const Problem& p) {
  if (p.batch == 0 || p.out_sites == 0 || p.out_channels == 0) return;
  const KernelTable& table = kernels();
  const Rows x(table, x_operand(p), Rows::Use::input, p.blocks * p.out_channels / (p.in_sites + 1));
  const Rows y(table, y_operand(p), Rows::Use::output);
  ProductJob job{};
  job.pattern = p.by_output;
  job.values = p.values;
  job.value_count = p.blocks * p.out_channels * p.in_channels;
  job.bias = p.bias;
  job.rows = p.out_channels;
  job.depth = p.in_channels;
  job.block_size = p.out_channels * p.in_channels;
  job.a_row = p.in_channels;
  job.a_k = 1;
  job.b = x.data;
  job.b_site = x.site;
  job.b_channel = x.channel;
  job.c = y.data;
  job.c_site = y.site;
  job.c_channel = y.channel;
  job.batch = y.batch;
  split_product(job, p.out_sites, table, p.dtype);
  const ProductTask run = table.product[static_cast<int>(p.dtype)];
  run_tasks(p.out_sites * job.row_parts * job.batch_parts, table.product_scratch(job),
            [&](int64_t task, void* scratch) { run(job, task, scratch); });
  y.finish();
}

}  // namespace efcn
