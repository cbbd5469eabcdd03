// tensors -> sizes and memory, refusing what kernels cannot read; the contents of index arrays were checked when the layout was built
#pragma once

#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>

#include <torch/csrc/stable/tensor.h>

namespace efcn {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// op: with its library, as it is called
template <class... Parts>
void require(bool good, const char* op, const Parts&... parts) {
  if (good) return;
  std::ostringstream message;
  message << op << ": ";
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

inline std::string shape_of(const Tensor& t) {
  std::ostringstream text;
  text << "(";
  for (int64_t i = 0; i < t.dim(); ++i) text << (i ? ", " : "") << t.size(i);
  text << (t.dim() == 1 ? ",)" : ")");
  return text.str();
}

inline const char* name_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Half: return "float16";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Bool: return "bool";
    case ScalarType::Byte: return "uint8";
    default: return "another type";
  }
}

// types that the kernels compute
bool is_computed(ScalarType type);

// where a library computes
enum class Place { cpu, cuda };

// x and y may be gx and gy; either side of the pattern may be absent
struct Arguments {
  const char* op;
  const char* x_name;
  const Tensor* x;
  const char* y_name;
  const Tensor* y;
  const char* values_name;
  const Tensor* values;
  const std::optional<Tensor>* bias;
  const Tensor *crow, *col, *tcrow, *tcol, *tblock;
};

// one side of the pattern; block is null where entry e is block e, all are null where the side is absent
struct Side {
  const int32_t *start, *source, *block;
};

// what the arguments agree on. bias may be null
struct Checked {
  ScalarType type;
  int64_t batch, in_sites, out_sites, in_channels, out_channels, blocks;
  void* values;
  const void* bias;
  Side by_output, by_input;
};

Checked check(const Arguments& args, Place place);

// names and shapes, for messages
std::string shapes_of(const Arguments& args);

}  // namespace efcn
