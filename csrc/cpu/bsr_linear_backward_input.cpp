// gx[n, q, :] = sum over blocks (p, q) of transposed(values[block]) @ gy[n, p, :]
#include "bsr_linear.h"

#include "dispatch.h"

namespace efcn {

void bsr_linear_backward_input(const Problem& p) {
  if (p.batch == 0 || p.in_sites == 0 || p.in_channels == 0) return;
  const KernelTable& table = kernels();
  const Rows gy(table, y_operand(p), Rows::Use::input, p.blocks * p.in_channels / (p.out_sites + 1));
  const Rows gx(table, x_operand(p), Rows::Use::output);
  ProductJob job{};
  job.pattern = p.by_input;
  job.values = p.values;
  job.value_count = p.blocks * p.out_channels * p.in_channels;
  job.rows = p.in_channels;
  job.depth = p.out_channels;
  job.block_size = p.out_channels * p.in_channels;
  job.a_row = 1;
  job.a_k = p.in_channels;
  job.b = gy.data;
  job.b_site = gy.site;
  job.b_channel = gy.channel;
  job.c = gx.data;
  job.c_site = gx.site;
  job.c_channel = gx.channel;
  job.batch = gx.batch;
  split_product(job, p.in_sites, table, p.dtype);
  const ProductTask run = table.product[static_cast<int>(p.dtype)];
  run_tasks(p.in_sites * job.row_parts * job.batch_parts, table.product_scratch(job),
            [&](int64_t task, void* scratch) { run(job, task, scratch); });
  gx.finish();
}

}  // namespace efcn
