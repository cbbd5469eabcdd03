#include "operand.h"

namespace efcn {
namespace {

// a vector that straddles two cache lines costs two accesses; an aligned copy costs one pass over the tensor. At N = 250, Intel, one
// thread: 3,400 uses of each element (64->192 k5 @8): 133 GFLOP/s in place, 157 copied; 550 uses (64->64 k3 @32): 118 in place, 113 copied
constexpr int64_t worth_aligning = 1000;

bool is_aligned(const Operand& operand, int64_t vector_bytes) {
  const int64_t bytes = compute_bytes(operand.dtype);
  return reinterpret_cast<uintptr_t>(operand.view.data) % static_cast<uintptr_t>(vector_bytes) == 0 &&
         operand.view.site * bytes % vector_bytes == 0 && operand.view.channel * bytes % vector_bytes == 0;
}

}  // namespace

Rows::Rows(const KernelTable& table, const Operand& operand, Use use, int64_t reuse)
    : data(operand.view.data),
      site(operand.view.site),
      channel(operand.view.channel),
      batch(operand.batch),
      table_(table),
      dtype_(operand.dtype),
      job_{operand.view, operand.batch, operand.sites, operand.channels, nullptr, 0, 0} {
  const int64_t lines = operand.sites * operand.channels;
  if (use == Use::output) prefer_large_pages(data, static_cast<size_t>(lines * batch * storage_bytes(dtype_)));
  const int64_t lanes = table.vector_bytes / compute_bytes(operand.dtype);
  const bool direct = operand.view.batch == 1 && !is_converted(operand.dtype) && operand.batch >= lanes;
  if (direct && (reuse < worth_aligning || is_aligned(operand, table.vector_bytes))) return;

  job_.pitch = divide_up(operand.batch, lanes) * lanes;
  if (operand.batch < lanes) batch = lanes;
  memory_ = Scratch(static_cast<size_t>(lines * job_.pitch * compute_bytes(operand.dtype)));
  job_.rows = data = memory_.get();
  channel = job_.pitch;
  site = operand.channels * job_.pitch;
  // parts of at least 32 KiB or so, a few for each thread
  const int64_t worthwhile = lines * job_.pitch / 8192 + 1;
  const int64_t wanted = 8 * thread_count();
  job_.parts = worthwhile < wanted ? worthwhile : wanted;
  if (use == Use::input) {
    run_tasks(job_.parts, 0, [&](int64_t task, void*) { table_.pack[static_cast<int>(dtype_)](job_, task); });
  }
}

void Rows::finish() const {
  if (!memory_) return;
  run_tasks(job_.parts, 0, [&](int64_t task, void*) { table_.unpack[static_cast<int>(dtype_)](job_, task); });
}

}  // namespace efcn
