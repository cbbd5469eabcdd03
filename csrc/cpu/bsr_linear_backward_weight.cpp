// gvalues[block] = sum over n of gy[n, p, :] outer x[n, q, :]
#include "bsr_linear.h"

#include <cstring>

#include "dispatch.h"

namespace efcn {
namespace {

// gradients beyond this, which reach memory anyway before an optimizer reads them, are written past the caches: half the traffic. One
// thread of a Zen 4: 64->192 k5 @8 with one image 6 -> 11 % of the peak (a copy's bandwidth), 128->128 k3 @14 with 8 images 37 -> 66 %,
// with 32 79 -> 85 %, with 250 the same
constexpr size_t most_cached = 4 << 20;

enum class Way { outer, window, dot };

// the way of the fewest multiply-adds of whole vectors for an average block. Outer products waste the lanes that a block's input channels
// do not fill; a window wastes few, but transposes x for each output site and copies its results (8 multiply-adds a vector and a row by
// measurement); a dot product loads half as much again and pays for its horizontal sum
Way choose(const Problem& p, int64_t lanes) {
  const int64_t columns = divide_up(p.blocks * p.in_channels, p.out_sites);
  const int64_t outer = 2 * p.out_channels * divide_up(p.in_channels, lanes) * p.batch;
  const int64_t window = 2 * (p.out_channels + 8) * divide_up(columns, lanes) * p.batch * p.out_sites / p.blocks + 8 * p.out_channels;
  const int64_t dot = p.out_channels * p.in_channels * (3 * divide_up(p.batch, lanes) + 1);
  return dot < outer && dot < window ? Way::dot : window < outer ? Way::window : Way::outer;
}

const WeightKernel& kernel_of(const Kernels& row, Way way) {
  switch (way) {
    case Way::outer: return row.weight_outer;
    case Way::window: return row.weight_window;
    case Way::dot: return row.weight_dot;
  }
  __builtin_unreachable();
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
  const Way way = choose(p, table.vector_bytes / compute_bytes(p.dtype));
  WeightJob job{};
  job.pattern = way == Way::outer ? p.by_input : p.by_output;
  job.gvalues = p.values;
  job.sgd = sgd;
  job.gy = gy.data;
  job.gy_site = gy.site;
  job.gy_channel = gy.channel;
  job.x = x.data;
  job.x_site = x.site;
  job.x_channel = x.channel;
  job.batch = p.batch;
  job.co = p.out_channels;
  job.ci = p.in_channels;
  job.streams = bytes > most_cached;
  const int64_t sites = way == Way::outer ? p.in_sites : p.out_sites;
  const int64_t bands = divide_up(job.co, table.tile_rows), wanted = divide_up(wanted_tasks(), sites);
  job.row_parts = wanted < bands ? wanted : bands;
  const WeightKernel& kernel = kernel_of(table.rows[p.dtype], way);
  run_tasks(sites * job.row_parts, kernel.scratch(job), [&](int64_t task, void* scratch) { kernel.run(job, task, scratch); });
}

}  // namespace efcn
