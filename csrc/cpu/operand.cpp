#include "operand.h"

namespace efcn {

Rows::Rows(const KernelTable& table, const Operand& operand, Use use)
    : data(operand.view.data),
      site(operand.view.site),
      channel(operand.view.channel),
      table_(table),
      dtype_(operand.dtype),
      job_{operand.view, operand.batch, operand.sites, operand.channels, nullptr, 0, 0} {
  const int64_t lines = operand.sites * operand.channels;
  if (use == Use::output) prefer_large_pages(data, static_cast<size_t>(lines * operand.batch * storage_bytes(dtype_)));
  const int64_t lanes = table.vector_bytes / compute_bytes(dtype_);
  if (operand.view.batch == 1 || operand.batch == 1) return;

  // an odd number of vectors, so that rows do not meet in the same sets of a cache
  job_.pitch = (divide_up(operand.batch, lanes) | 1) * lanes;
  memory_ = Scratch(static_cast<size_t>(lines * job_.pitch * storage_bytes(dtype_)));
  job_.rows = data = memory_.get();
  channel = job_.pitch;
  site = operand.channels * job_.pitch;
  // parts of at least 32 KiB or so, a few for each thread
  const int64_t worthwhile = lines * job_.pitch / 8192 + 1;
  const int64_t wanted = 8 * thread_count();
  job_.parts = worthwhile < wanted ? worthwhile : wanted;
  if (use == Use::output) return;
  run_tasks(job_.parts, 0, [&](int64_t task, void*) { table_.rows[dtype_].pack(job_, task); });
}

void Rows::finish() const {
  if (!memory_) return;
  run_tasks(job_.parts, 0, [&](int64_t task, void*) { table_.rows[dtype_].unpack(job_, task); });
}

}  // namespace efcn
