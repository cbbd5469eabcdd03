#include "operand.h"

namespace efcn {
Rows::Rows(const KernelTable& table, const Operand& operand, Use use)
    : data(operand.view.data),
      site(operand.view.site),
      channel(operand.view.channel),
      batch(operand.batch),
      table_(table),
      dtype_(operand.dtype),
      job_{operand.view, operand.batch, operand.sites, operand.channels, nullptr, 0, 0} {
  const int64_t lines = operand.sites * operand.channels;
  if (use == Use::output) prefer_large_pages(data, static_cast<size_t>(lines * batch * storage_bytes(dtype_)));
  const int64_t lanes = table.vector_bytes / compute_bytes(dtype_);
  const bool wide = use == Use::wide_input;
  const bool innermost = operand.view.batch == 1 || operand.batch == 1;
  if (innermost && !(wide && (is_converted(dtype_) || operand.batch < lanes))) return;

  job_.pitch = divide_up(operand.batch, lanes) * lanes;
  if (wide && operand.batch < lanes) batch = lanes;
  const int64_t element = wide ? compute_bytes(dtype_) : storage_bytes(dtype_);
  memory_ = Scratch(static_cast<size_t>(lines * job_.pitch * element));
  job_.rows = data = memory_.get();
  channel = job_.pitch;
  site = operand.channels * job_.pitch;
  // parts of at least 32 KiB or so, a few for each thread
  const int64_t worthwhile = lines * job_.pitch / 8192 + 1;
  const int64_t wanted = 8 * thread_count();
  job_.parts = worthwhile < wanted ? worthwhile : wanted;
  if (use == Use::output) return;
  const PackTask pack = (wide ? table_.pack_wide : table_.pack)[static_cast<int>(dtype_)];
  run_tasks(job_.parts, 0, [&](int64_t task, void*) { pack(job_, task); });
}

void Rows::finish() const {
  if (!memory_) return;
  run_tasks(job_.parts, 0, [&](int64_t task, void*) { table_.unpack[static_cast<int>(dtype_)](job_, task); });
}

}  // namespace efcn
