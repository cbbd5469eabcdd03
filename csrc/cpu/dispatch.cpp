#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <vector>

namespace efcn {
namespace {

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
    }
  }
#endif
  return tables;
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
    table = wish && *wish ? find(wish, "EFCN_CPU_ISA") : runnable().back();
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
