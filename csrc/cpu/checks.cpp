#include "checks.h"

namespace efcn {
namespace {

View view_of(const Tensor& t) { return {t.data_ptr(), t.stride(0), t.stride(1), t.stride(2)}; }

Pattern pattern_of(const Side& side) { return {side.start, side.source, side.block}; }

Dtype dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::Double: return Dtype::f64;
    case ScalarType::BFloat16: return Dtype::bf16;
    case ScalarType::Half: return Dtype::f16;
    default: return Dtype::f32;
  }
}

}  // namespace

void* check_beside(const char* op, const char* name, const Tensor& t, const Tensor& values, ScalarType type) {
  require(t.is_cpu(), op, name, " must be on the CPU");
  require(t.scalar_type() == type, op, name, " must be ", name_of(type), ", got ", name_of(t.scalar_type()));
  require(shape_of(t) == shape_of(values), op, name, " must have the shape of values, ", shape_of(values), ", got ", shape_of(t));
  require(t.is_contiguous(), op, name, " must be contiguous");
  return t.data_ptr();
}

Problem problem_of(const Arguments& args) {
  const Checked c = check(args, Place::cpu);
  return {dtype_of(c.type), c.batch,          c.out_sites, c.in_sites, c.out_channels,          c.in_channels,         c.blocks,
          view_of(*args.x), view_of(*args.y), c.values,    c.bias,     pattern_of(c.by_output), pattern_of(c.by_input)};
}

}  // namespace efcn
