// what travels from the drivers to the kernels of one instruction set: plain structs only
#pragma once

#include <cstddef>
#include <cstdint>

namespace efcn {

// a (batch, site, channel) tensor of any strides, in elements
struct View {
  void* data;
  int64_t batch, site, channel;
};

// one side of the block pattern: the blocks that a target site reduces over, and the source site of each
struct Pattern {
  const int32_t* start;
  const int32_t* source;
  // null: block t of the list is block t of the values
  const int32_t* block;
};

// packing or unpacking: view <-> rows[site][channel][pitch], in the storage type
struct PackJob {
  View view;
  int64_t batch, sites, channels;
  void* rows;
  int64_t pitch;
  // tasks cut the (site, channel) pairs into this many parts
  int64_t parts;
};

// c[target site][row][n] = bias[target site][row]
//     + sum over (block, source site) of target, sum over k of a(block)[row, k] * b[source site][k][n]
// a(block)[row, k] = values[block * block_size + row * a_row + k * a_k]; b and c lie with the batch innermost
struct ProductJob {
  Pattern pattern;
  const void* values;
  const void* bias;
  // number of values in all
  int64_t value_count;
  int64_t rows, depth, block_size, a_row, a_k;
  const void* b;
  int64_t b_site, b_channel;
  void* c;
  int64_t c_site, c_channel;
  int64_t batch;
  // target sites, or groups of them: neighbours that reduce over the same sources, whose few rows fill a tile only together. Group i is the
  // sites from groups[i] to groups[i + 1], of which there are members at most; their rows must follow each other in c. null: no groups
  int64_t sites;
  const int32_t* groups;
  int64_t members;
  // task = (part of the rows, site or group, part of the batch): what follows a site is its neighbour, whose weights are asked for ahead
  int64_t row_parts, batch_parts;
};

// a step of SGD: g += weight_decay * w; m = momentum * m + g; w -= lr * m, or lr * (g + momentum * m) with nesterov
struct SgdJob {
  // m, of the shape and type of the weights; null: none, and g stands in its place
  void* momentum_buffer;
  // of the shape of the weights: where it is false g is 0; null: nowhere
  const bool* mask;
  double lr, momentum, weight_decay;
  bool nesterov;
};

// gvalues[block][co][ci] = sum over n of gy[p][co][n] * x[q][ci][n]
struct WeightJob {
  Pattern pattern;
  void* gvalues;
  // null, or the step that the gradients make: `gvalues` then holds the weights
  const SgdJob* sgd;
  const void* gy;
  int64_t gy_site, gy_channel;
  const void* x;
  int64_t x_site, x_channel;
  int64_t batch, co, ci;
  // whether gvalues may pass the caches by on their way to memory
  bool streams;
  // task = (site, part of the output channels)
  int64_t row_parts;
};

// taps of a window at most: the gradient's pass looks at each window that a pixel is in. Forward / backward of 4/1 @16 in 0.55 / 0.77 of
// torch's time, of 5/1 in 0.96 / 1.00
constexpr int most_taps = 16;

// y[i][j] = max over the taps (a, b) of x[i * stride - padding + a * dilation][...], row by row of `columns` numbers, and the number
// a * kernel[1] + b of the first tap that has it. In the gradient's pass x and y are the gradients
struct PoolJob {
  void* x;
  void* y;
  uint8_t* taps;
  int64_t columns;
  // height and width of each
  int64_t size[2], out_size[2], kernel[2], stride[2], padding[2], dilation[2];
  // task = (part of the columns, line of what is written)
  int64_t parts;
};

// images that product_few.h takes at most
constexpr int64_t most_few = 8;

// static: an inline function would be shared between files of different instruction sets
static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// start of part i when n things are cut into `parts` parts of nearly equal size
static inline int64_t part_start(int64_t n, int64_t parts, int64_t i) { return i * (n / parts) + (i < n % parts ? i : n % parts); }

}  // namespace efcn
