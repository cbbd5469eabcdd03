// gvalues[block] = sum over n of gy[n, p, :] outer x[n, q, :]
#include "bsr_linear.h"

#include <cstring>

#include "dispatch.h"

namespace efcn {
namespace {

// whether outer products (lanes over the input channels) beat dot products (lanes over the batch), by counting multiply-adds of whole
// vectors. A dot product loads more (half as much again) and pays its horizontal sum (half a multiply-add each). Fitted by eye to blocks
// from 1x1 to 64x10 at N = 16, 64 and 250 with AVX-512 and AVX2; by those times the worst choice (64x6, N = 64, AVX2) costs 40 %. For 64x3
// at N = 250 (AVX-512) dot products took 1.6 ms and outer products 4.3; for 32x16, 3.2 and 2.4
bool outer_wins(const Problem& p, int64_t lanes) {
  const int64_t outer = 2 * divide_up(p.in_channels, lanes) * p.batch;
  const int64_t dot = p.in_channels * (3 * divide_up(p.batch, lanes) + 1);
  return outer <= dot;
}

}  // namespace

void bsr_linear_backward_weight(const Problem& p, const SgdJob* sgd) {
  const int64_t numel = p.blocks * p.out_channels * p.in_channels;
  if (numel == 0) return;
  const size_t bytes = static_cast<size_t>(numel * storage_bytes(p.dtype));
  if (!sgd) prefer_large_pages(p.values, bytes);
  if (p.batch == 0) {
    std::memset(p.values, 0, bytes);
    return;
  }
  const KernelTable& table = kernels();
  const Rows x(table, x_operand(p), Rows::Use::input);
  const Rows gy(table, y_operand(p), Rows::Use::input);
  const bool outer = outer_wins(p, table.vector_bytes / compute_bytes(p.dtype));
  const int64_t sites = outer ? p.in_sites : p.out_sites;
  WeightJob job{};
  job.pattern = outer ? p.by_input : p.by_output;
  job.gvalues = p.values;
  job.sgd = sgd;
  job.gy = gy.data;
  job.gy_site = gy.site;
  job.gy_channel = gy.channel;
  job.x = x.data;
  job.x_site = x.site;
  job.x_channel = x.channel;
  job.batch = x.batch;
  job.co = p.out_channels;
  job.ci = p.in_channels;
  const int64_t bands = divide_up(job.co, table.tile_rows), wanted = divide_up(16 * thread_count(), sites);
  job.row_parts = wanted < bands ? wanted : bands;
  const WeightTask run = (outer ? table.weight_outer : table.weight_dot)[static_cast<int>(p.dtype)];
  run_tasks(sites * job.row_parts, outer ? table.weight_outer_scratch(job) : 0,
            [&](int64_t task, void* scratch) { run(job, task, scratch); });
}

}  // namespace efcn
