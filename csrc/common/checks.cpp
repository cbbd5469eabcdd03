#include "checks.h"

namespace efcn {
namespace {

// what every tensor of a call has in common
struct Common {
  const char* op;
  Place place;
  ScalarType type;
  int64_t device;

  void check(const char* name, const Tensor& t) const {
    if (place == Place::cpu) {
      require(t.is_cpu(), op, name, " must be on the CPU");
    } else {
      require(t.is_cuda(), op, name, " must be on a CUDA GPU");
      require(t.get_device_index() == device, op, name, " is on GPU ", t.get_device_index(), " but values is on GPU ", device);
    }
  }

  // shape, type and device of one floating-point argument
  void check_values(const char* name, const Tensor& t, int64_t dim, const char* meaning) const {
    check(name, t);
    require(t.dim() == dim, op, name, " must be ", meaning, ", got shape ", shape_of(t));
    require(t.scalar_type() == type, op, name, " is ", name_of(t.scalar_type()), " but values is ", name_of(type), ": all must agree");
  }

  const int32_t* check_index(const char* name, const Tensor& t, int64_t size, const char* meaning) const {
    check(name, t);
    require(t.scalar_type() == ScalarType::Int, op, name, " must be int32, got ", name_of(t.scalar_type()));
    require(t.dim() == 1 && t.size(0) == size, op, name, " must have shape (", size, ",), ", meaning, ", got ", shape_of(t));
    require(size <= 1 || t.stride(0) == 1, op, name, " must be contiguous, got stride ", size > 1 ? t.stride(0) : 1);
    return static_cast<const int32_t*>(t.data_ptr());
  }
};

Side check_side(const Common& common, const Tensor& start, const Tensor& source, const Tensor* block, int64_t sites, int64_t blocks) {
  const bool by_input = block != nullptr;
  const char* name = by_input ? "tcrow" : "crow";
  Side side{};
  side.start = common.check_index(name, start, sites + 1, by_input ? "input sites + 1" : "output sites + 1");
  side.source = common.check_index(by_input ? "tcol" : "col", source, blocks, "one entry per block");
  if (block) side.block = common.check_index("tblock", *block, blocks, "one entry per block");
  // what lies on a GPU cannot be looked at without waiting for it
  if (common.place == Place::cpu)
    require(side.start[sites] == blocks, common.op, name, " must end with the number of blocks, ", blocks, ", but ends with ",
            side.start[sites]);
  return side;
}

}  // namespace

bool is_computed(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16 || type == ScalarType::Half;
}

std::string shapes_of(const Arguments& args) {
  return std::string(args.x_name) + " " + shape_of(*args.x) + ", " + args.y_name + " " + shape_of(*args.y) + ", " + args.values_name + " " +
         shape_of(*args.values);
}

Checked check(const Arguments& args, Place place) {
  const char* op = args.op;
  const Common common{op, place, args.values->scalar_type(), args.values->get_device_index()};
  require(is_computed(common.type), op, args.values_name, " must be float32, float64, bfloat16 or float16, got ", name_of(common.type));
  common.check_values(args.values_name, *args.values, 3, "(blocks, channels out, channels in)");
  common.check_values(args.x_name, *args.x, 3, "(batch, input sites, channels in)");
  common.check_values(args.y_name, *args.y, 3, "(batch, output sites, channels out)");
  require(args.values->is_contiguous(), op, args.values_name, " must be contiguous, got strides (", args.values->stride(0), ", ",
          args.values->stride(1), ", ", args.values->stride(2), ")");
  Checked c{};
  c.type = common.type;
  c.batch = args.x->size(0);
  c.in_sites = args.x->size(1);
  c.out_sites = args.y->size(1);
  c.blocks = args.values->size(0);
  c.out_channels = args.values->size(1);
  c.in_channels = args.values->size(2);
  require(args.y->size(0) == c.batch, op, "batch sizes differ: ", shapes_of(args));
  require(args.x->size(2) == c.in_channels, op, "channels in differ: ", shapes_of(args));
  require(args.y->size(2) == c.out_channels, op, "channels out differ: ", shapes_of(args));
  c.values = args.values->data_ptr();
  if (args.bias && args.bias->has_value()) {
    const Tensor& bias = **args.bias;
    common.check_values("bias", bias, 2, "(output sites, channels out)");
    require(bias.size(0) == c.out_sites && bias.size(1) == c.out_channels, op, "bias must have shape (", c.out_sites, ", ", c.out_channels,
            "), got ", shape_of(bias));
    require(bias.is_contiguous(), op, "bias must be contiguous, got strides (", bias.stride(0), ", ", bias.stride(1), ")");
    c.bias = bias.data_ptr();
  }
  if (args.crow) c.by_output = check_side(common, *args.crow, *args.col, nullptr, c.out_sites, c.blocks);
  if (args.tcrow) c.by_input = check_side(common, *args.tcrow, *args.tcol, args.tblock, c.in_sites, c.blocks);
  return c;
}

}  // namespace efcn
