// an operand as the kernels want it: batch innermost without gaps
#pragma once

#include "parallel.h"
#include "problem.h"

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

inline bool is_double(Dtype dtype) { return dtype == Dtype::f64; }
inline int64_t compute_bytes(Dtype dtype) { return is_double(dtype) ? 8 : 4; }
inline bool is_converted(Dtype dtype) { return dtype == Dtype::bf16 || dtype == Dtype::f16; }
inline int64_t storage_bytes(Dtype dtype) { return is_converted(dtype) ? 2 : compute_bytes(dtype); }

}  // namespace efcn
