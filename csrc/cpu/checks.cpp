#include "checks.h"

#include <utility>

namespace efcn {
namespace {

View view_of(const Tensor& t) { return {t.data_ptr(), t.stride(0), t.stride(1), t.stride(2)}; }

Pattern pattern_of(const Side& side) { return {side.start, side.source, side.block}; }

}  // namespace

Dtype dtype_of(ScalarType type) {
  switch (type) {
#define EFCN_DTYPE(name, stored, computed, scalar_type) \
  case ScalarType::scalar_type: return Dtype::name;
    EFCN_EACH_DTYPE(EFCN_DTYPE)
#undef EFCN_DTYPE
    default: throw std::invalid_argument(std::string("no kernel of efcn_cpu computes ") + name_of(type));
  }
}

std::string dtype_names() {
  std::string names;
#define EFCN_DTYPE(name, stored, computed, scalar_type) names += (names.empty() ? "" : ",") + std::string(name_of(ScalarType::scalar_type));
  EFCN_EACH_DTYPE(EFCN_DTYPE)
#undef EFCN_DTYPE
  return names;
}

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

PoolJob pool_of(const PoolArguments& args) {
  const char *op = args.op, *x = args.x_name, *y = args.y_name;
  const ScalarType type = args.x.scalar_type();
  for (const auto& [name, t] : {std::pair{x, &args.x}, std::pair{y, &args.y}, std::pair{"taps", &args.taps}}) {
    require(t->is_cpu(), op, name, " must be on the CPU");
    require(t->dim() == 3 && t->is_contiguous(), op, name, " must be (height, width, columns), contiguous, got ", shape_of(*t));
  }
  require(is_computed(type) && args.y.scalar_type() == type, op, x, " and ", y, " must have one floating-point type, got ", name_of(type),
          " and ", name_of(args.y.scalar_type()));
  require(args.taps.scalar_type() == ScalarType::Byte, op, "taps must be uint8, got ", name_of(args.taps.scalar_type()));
  require(shape_of(args.taps) == shape_of(args.y), op, "taps must have the shape of ", y, ", ", shape_of(args.y), ", got ",
          shape_of(args.taps));
  require(args.x.size(2) == args.y.size(2), op, x, " and ", y, " must have the same columns, got ", shape_of(args.x), " and ",
          shape_of(args.y));
  const auto within = [&](const char* name, Extents e, int64_t least, int64_t most) {
    const bool good = e.height >= least && e.height <= most && e.width >= least && e.width <= most;
    require(good, op, name, " must be from ", least, " to ", most, ", got (", e.height, ", ", e.width, ")");
  };
  // no sum of products of them overflows
  const int64_t most = int64_t{1} << 30;
  within("kernel", args.kernel, 1, most_taps);
  within("stride", args.stride, 1, most);
  within("padding", args.padding, 0, most);
  within("dilation", args.dilation, 1, most);
  const int64_t taps = args.kernel.height * args.kernel.width;
  require(taps <= most_taps, op, "a window has ", most_taps, " taps at most, got ", taps);
  return {args.x.data_ptr(),
          args.y.data_ptr(),
          static_cast<uint8_t*>(args.taps.data_ptr()),
          args.x.size(2),
          {args.x.size(0), args.x.size(1)},
          {args.y.size(0), args.y.size(1)},
          {args.kernel.height, args.kernel.width},
          {args.stride.height, args.stride.width},
          {args.padding.height, args.padding.width},
          {args.dilation.height, args.dilation.width},
          0};
}

}  // namespace efcn
