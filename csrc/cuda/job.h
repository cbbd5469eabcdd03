// what travels from the host to the kernels: plain structs and C functions only, so that .cu files need no torch header
#pragma once

#include <cstdint>

namespace efcn {

// how numbers are stored and multiplied. tf32: float32 in memory, on the matrix units
enum class Math : int { f32 = 0, f64 = 1, bf16 = 2, f16 = 3, tf32 = 4 };

// a (batch, site, channel) tensor of any strides, in elements
struct View {
  void* data;
  int64_t batch, site, channel;
};

// y[n, r] = bias[r] + sum over the entries e of row r of A(e) @ x[n, source[e]], where A(e) is block number[e] of the values (null: block
// e). A(e)[o, c] = values[number * out * in + o * a_out + c * a_in]: forward, or transposed for grad-input
struct ProductJob {
  View y, x;
  const void* values;
  // (rows, out), contiguous, or null
  const void* bias;
  // (rows + 1), (entries), (entries)
  const int32_t *begin, *source, *number;
  int64_t batch, rows, out, in, a_out, a_in;
  // entries of all rows
  int64_t entries;
  // neighbouring rows that one program computes together, sharing their inputs; set by the launcher
  int64_t members;
};

// gvalues[e][o, c] = sum over n of gy[n, r, o] * x[n, source[e], c], e an entry of row r
struct WeightJob {
  void* gvalues;
  View gy, x;
  const int32_t *begin, *source;
  int64_t batch, rows, out, in, entries;
};

// which kernels may be taken
enum class Path : int { any = 0, cuda_cores = 1, matrix_units = 2 };

}  // namespace efcn

// each launches on `stream` (a cudaStream_t) of the current device and returns null, or what is wrong, in memory that lasts until the
// thread's next call
extern "C" {
const char* efcn_cuda_bsr_linear(const efcn::ProductJob* job, efcn::Math math, efcn::Path path, void* stream);
const char* efcn_cuda_bsr_linear_backward_input(const efcn::ProductJob* job, efcn::Math math, efcn::Path path, void* stream);
const char* efcn_cuda_bsr_linear_backward_weight(const efcn::WeightJob* job, efcn::Math math, efcn::Path path, void* stream);
}
