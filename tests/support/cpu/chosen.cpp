// what csrc/cpu/dispatch.cpp chooses on a machine with the features that are named. Its tables hold no kernels, so that choosing ends here
// where it runs any, and numbers in their place: bands of 1 for copied images, 2 for those in place, 3 for dot products of pairs, 4 for
// tiles
#include <iostream>
#include <string>

#include "../../../csrc/cpu/dispatch.h"
#include "../../../csrc/cpu/features.h"

namespace efcn {
namespace {

Features machine;

constexpr KernelTable table_of(const char* name, int64_t vector_bytes) {
  KernelTable table{name, vector_bytes, 1, {}};
#define EFCN_DTYPE(name, ...)       \
  table.rows.name.product.band = 1; \
  table.rows.name.product_in_place.band = 2;
  EFCN_EACH_DTYPE(EFCN_DTYPE)
#undef EFCN_DTYPE
  return table;
}

}  // namespace

const Features& features() { return machine; }

constexpr KernelTable kernels_base = table_of("base", 16);
constexpr KernelTable kernels_avx2 = table_of("avx2", 32);
constexpr KernelTable kernels_avx512 = table_of("avx512", 64);
constexpr PairKernels pairs_avx512_bf16 = {"avx512_bf16", {nullptr, nullptr, 3, 0, false}, {}, nullptr};
constexpr PairKernels pairs_amx = {"amx", {nullptr, nullptr, 4, 0, false}, {}, nullptr};

}  // namespace efcn

int main(int count, char** words) {
  using namespace efcn;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "avx2") machine.avx2 = true;
    if (word == "avx512") machine.avx512 = true;
    if (word == "avx512_bf16") machine.avx512_bf16 = true;
    if (word == "amx") machine.amx = true;
    if (word == "by_amd") machine.by_amd = true;
  }
  try {
    const KernelTable& table = kernels();
    std::cout << available_isas() << " " << table.name << " " << tuning() << " " << table.rows.f32.product.band
              << table.rows.f64.product.band << table.rows.bf16.product.band << "\n";
  } catch (const std::exception& error) {
    std::cout << error.what() << "\n";
  }
}
