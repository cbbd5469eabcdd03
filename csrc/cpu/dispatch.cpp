#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace efcn {
namespace {

#if defined(__x86_64__)
// tiles, and bfloat16 in them
bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1);
}
#endif

// lowest first
std::vector<const KernelTable*> runnable() {
  std::vector<const KernelTable*> tables{kernels_base()};
#if defined(__x86_64__)
  // these ask the operating system too whether it saves the wide registers
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    tables.push_back(kernels_avx2());
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      tables.push_back(kernels_avx512());
      if (__builtin_cpu_supports("avx512bf16")) tables.push_back(kernels_avx512_bf16());
      if (has_amx() && kernels_amx()) tables.push_back(kernels_amx());
    }
  }
#endif
  return tables;
}

// pairs of bfloat16 are a gain where they run as often as a multiply-add of floats, as on AMD's cores. An Intel Xeon started 1.6 of them
// per nanosecond and 6.4 of floats: there tiles are the gain
const KernelTable* best() {
  std::vector<const KernelTable*> tables = runnable();
#if defined(__x86_64__)
  // by its name: even asking for a table runs code of its instruction set, which this CPU may lack
  if (std::strcmp(tables.back()->name, "avx512_bf16") == 0 && !__builtin_cpu_is("amd")) tables.pop_back();
#endif
  return tables.back();
}

const KernelTable* find(const std::string& name, const char* asked_by) {
  for (const KernelTable* table : runnable()) {
    if (name == table->name) return table;
  }
  throw std::runtime_error(std::string(asked_by) + " asks for the instruction set '" + name +
                           "', but this CPU and this build have only: " + available_isas());
}

std::atomic<const KernelTable*> current{nullptr};

}  // namespace

const KernelTable& kernels() {
  const KernelTable* table = current.load();
  if (!table) {
    const char* wish = std::getenv("EFCN_CPU_ISA");
    table = wish && *wish ? find(wish, "EFCN_CPU_ISA") : best();
    current.store(table);
  }
  return *table;
}

std::string available_isas() {
  std::string names;
  for (const KernelTable* table : runnable()) names += (names.empty() ? "" : ",") + std::string(table->name);
  return names;
}

void force_isa(const std::string& name) { current.store(find(name, "set_isa")); }

}  // namespace efcn
