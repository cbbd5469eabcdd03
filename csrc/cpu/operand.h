// an operand as the kernels want it: batch innermost without gaps
#pragma once

#include "kernel_table.h"
#include "parallel.h"

namespace efcn {

struct Operand {
  View view;
  Dtype dtype;
  int64_t batch, sites, channels;
};

// the operand itself where it lies well, a packed copy otherwise; `finish` copies an output back
class Rows {
 public:
  enum class Use { input, output };
  Rows(const KernelTable& table, const Operand& operand, Use use);
  void finish() const;

  void* data;
  int64_t site, channel;

 private:
  const KernelTable& table_;
  Dtype dtype_;
  PackJob job_;
  Scratch memory_;
};

// of one number
#define EFCN_DTYPE(name, stored, computed, ...) static_cast<int64_t>(sizeof(computed)),
inline int64_t compute_bytes(Dtype dtype) { return ByDtype<int64_t>{EFCN_EACH_DTYPE(EFCN_DTYPE)}[dtype]; }
#undef EFCN_DTYPE
#define EFCN_DTYPE(name, stored, ...) static_cast<int64_t>(sizeof(stored)),
inline int64_t storage_bytes(Dtype dtype) { return ByDtype<int64_t>{EFCN_EACH_DTYPE(EFCN_DTYPE)}[dtype]; }
#undef EFCN_DTYPE

}  // namespace efcn
