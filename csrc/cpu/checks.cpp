#include "checks.h"

namespace efcn {
namespace {

View view_of(const Tensor& t) { return {t.data_ptr(), t.stride(0), t.stride(1), t.stride(2)}; }

Pattern check_pattern(const char* op, const Tensor& start, const Tensor& source, const Tensor* block, int64_t sites, int64_t blocks) {
  const bool by_input = block != nullptr;
  Pattern pattern{};
  pattern.start = check_index(op, by_input ? "tcrow" : "crow", start, sites + 1, by_input ? "input sites + 1" : "output sites + 1");
  pattern.source = check_index(op, by_input ? "tcol" : "col", source, blocks, "one entry per block");
  if (block) pattern.block = check_index(op, "tblock", *block, blocks, "one entry per block");
  require(pattern.start[sites] == blocks, op, by_input ? "tcrow" : "crow", " must end with the number of blocks, ", blocks,
          ", but ends with ", pattern.start[sites]);
  return pattern;
}

}  // namespace

Problem check(const Arguments& args) {
  const char* op = args.op;
  const ScalarType type = args.values->scalar_type();
  Problem p{};
  p.dtype = dtype_of(op, args.values_name, *args.values);
  check_values(op, args.values_name, *args.values, 3, "(blocks, channels out, channels in)", type);
  check_values(op, args.x_name, *args.x, 3, "(batch, input sites, channels in)", type);
  check_values(op, args.y_name, *args.y, 3, "(batch, output sites, channels out)", type);
  require(args.values->is_contiguous(), op, args.values_name, " must be contiguous, got strides (", args.values->stride(0), ", ",
          args.values->stride(1), ", ", args.values->stride(2), ")");
  p.batch = args.x->size(0);
  p.in_sites = args.x->size(1);
  p.out_sites = args.y->size(1);
  p.blocks = args.values->size(0);
  p.out_channels = args.values->size(1);
  p.in_channels = args.values->size(2);
  const std::string shapes = std::string(args.x_name) + " " + shape_of(*args.x) + ", " + args.y_name + " " + shape_of(*args.y) + ", " +
                             args.values_name + " " + shape_of(*args.values);
  require(args.y->size(0) == p.batch, op, "batch sizes differ: ", shapes);
  require(args.x->size(2) == p.in_channels, op, "channels in differ: ", shapes);
  require(args.y->size(2) == p.out_channels, op, "channels out differ: ", shapes);
  p.x = view_of(*args.x);
  p.y = view_of(*args.y);
  p.values = args.values->data_ptr();
  if (args.bias && args.bias->has_value()) {
    const Tensor& bias = **args.bias;
    check_values(op, "bias", bias, 2, "(output sites, channels out)", type);
    require(bias.size(0) == p.out_sites && bias.size(1) == p.out_channels, op, "bias must have shape (", p.out_sites, ", ", p.out_channels,
            "), got ", shape_of(bias));
    require(bias.is_contiguous(), op, "bias must be contiguous, got strides (", bias.stride(0), ", ", bias.stride(1), ")");
    p.bias = bias.data_ptr();
  }
  if (args.crow) p.by_output = check_pattern(op, *args.crow, *args.col, nullptr, p.out_sites, p.blocks);
  if (args.tcrow) p.by_input = check_pattern(op, *args.tcrow, *args.tcol, args.tblock, p.in_sites, p.blocks);
  return p;
}

}  // namespace efcn
