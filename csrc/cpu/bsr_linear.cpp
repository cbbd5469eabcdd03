// y[n, p, :] = bias[p, :] + sum over blocks (p, q) of values[block] @ x[n, q, :]
#include "bsr_linear.h"

#include <algorithm>
#include <vector>

#include "dispatch.h"

namespace efcn {

namespace {

// see ProductJob. Sets job.members too; empty where nothing can be grouped
std::vector<int32_t> group_sites(ProductJob& job, int64_t band) {
  if (job.rows >= band || job.c_site != job.rows * job.c_channel) return {};
  // eight bands of rows, but enough groups for all threads
  const int64_t fitting = 8 * band / job.rows, fair = job.sites / wanted_tasks(), most = fitting < fair ? fitting : fair;
  const auto length = [&](int64_t site) { return job.pattern.start[site + 1] - job.pattern.start[site]; };
  const auto sources = [&](int64_t site) { return job.pattern.source + job.pattern.start[site]; };
  std::vector<int32_t> groups;
  for (int64_t site = 0; site < job.sites;) {
    groups.push_back(static_cast<int32_t>(site));
    int64_t next = site + 1;
    while (next < job.sites && next - site < most && length(next) == length(site) &&
           std::equal(sources(site), sources(site) + length(site), sources(next))) {
      ++next;
    }
    job.members = std::max(job.members, next - site);
    site = next;
  }
  if (job.members == 1) return {};
  groups.push_back(static_cast<int32_t>(job.sites));
  return groups;
}

const ProductKernel& choose(const ProductJob& job, const KernelTable& table, Dtype dtype) {
  const Kernels& row = table.rows[dtype];
  const int64_t lanes = table.vector_bytes / compute_bytes(dtype);
  const bool whole = job.a_k == 1 ? job.depth % lanes == 0 : job.rows >= lanes;
  if (row.few_product.run && job.batch <= most_few && whole) return row.few_product;
  return job.rows < row.product.least_rows ? row.narrow_product : row.product;
}

}  // namespace

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
  job.members = 1;
  const ProductKernel& kernel = choose(job, table, p.dtype);
  const std::vector<int32_t> groups = kernel.groups ? group_sites(job, kernel.band) : std::vector<int32_t>();
  if (!groups.empty()) {
    job.groups = groups.data();
    job.sites = static_cast<int64_t>(groups.size()) - 1;
  }
  split_product(job, table, kernel, p.dtype);
  run_tasks(job.sites * job.row_parts * job.batch_parts, kernel.scratch(job),
            [&](int64_t task, void* scratch) { kernel.run(job, task, scratch); });
  c.finish();
}

void bsr_linear(const Problem& p) { run_product(p, p.by_output, x_operand(p), y_operand(p), p.in_channels, 1); }

}  // namespace efcn
