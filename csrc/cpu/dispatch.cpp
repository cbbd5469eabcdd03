#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "features.h"

namespace efcn {
namespace {

// kernels as they run, of one instruction set and one tuning
struct Choice {
  KernelTable table;
  Images images;
  // whether the machine takes this instruction set, and this tuning of it, where nothing else is asked for
  bool own_isa, own_images;
};

constexpr Images all_images[] = {Images::copied, Images::in_place};

const char* name_of(Images images) {
  switch (images) {
    case Images::copied: return "copied";
    case Images::in_place: return "in_place";
  }
  __builtin_unreachable();
}

KernelTable composed(const KernelTable& isa, const PairKernels* pairs, Images images) {
  KernelTable table = isa;
  if (images == Images::in_place) {
#define EFCN_DTYPE(name, ...) table.rows.name.product = table.rows.name.product_in_place;
    EFCN_EACH_DTYPE(EFCN_DTYPE)
#undef EFCN_DTYPE
  }
  if (pairs) {
    table.name = pairs->name;
    table.rows.bf16.product = pairs->product;
    table.rows.bf16.weight_outer = pairs->weight_outer;
    table.rows.bf16.spin = pairs->spin;
  }
  return table;
}

// instruction sets lowest first, each in both tunings
std::vector<Choice> compose_all(const Features& here) {
  // AMD's cores since Zen 4, which AVX512-BF16 tells from older ones: in place forward / grad-input reach 89 / 86 % of the peak of a Zen 4
  // core (64->192 k5 @8), with copied panels 77 / 66 %. With vectors half as wide a load that straddles two lines costs more: grad-input
  // 61 to 65 % in place, 70 % with panels. All others copy
  const auto own = [&](const KernelTable& isa) {
    return here.by_amd && here.avx512_bf16 && isa.vector_bytes == 64 ? Images::in_place : Images::copied;
  };
  std::vector<Choice> all;
  const auto add = [&](const KernelTable& isa, const PairKernels* pairs = nullptr, bool own_isa = true) {
    for (Images images : all_images) all.push_back({composed(isa, pairs, images), images, own_isa, images == own(isa)});
  };
  add(kernels_base);
#if defined(__x86_64__)
  if (here.avx2) add(kernels_avx2);
  if (here.avx512) add(kernels_avx512);
  // pairs of bfloat16 are a gain where they run as often as a multiply-add of floats, as on AMD's cores. An Intel Xeon started 1.6 of them
  // per nanosecond and 6.4 of floats: there tiles are the gain
  if (here.avx512_bf16) add(kernels_avx512, &pairs_avx512_bf16, here.by_amd);
  if (here.amx) add(kernels_avx512, &pairs_amx);
#endif
  return all;
}

const std::vector<Choice>& runnable() {
  static const std::vector<Choice> all = compose_all(features());
  return all;
}

// a name and who asks for it; an empty one leaves the choice to the machine
struct Wish {
  std::string name;
  const char* asked_by;
};

struct Wishes {
  Wish isa, tuning;
};

Wish in_environment(const char* variable) {
  const char* name = std::getenv(variable);
  return {name ? name : "", variable};
}

// the highest that is as wished
const Choice& choose(const Wishes& wishes) {
  const auto agrees = [](const Wish& wish, const char* name, bool own) { return wish.name.empty() ? own : wish.name == name; };
  const Choice* best = nullptr;
  bool isa_is_there = false;
  for (const Choice& choice : runnable()) {
    if (!agrees(wishes.isa, choice.table.name, choice.own_isa)) continue;
    isa_is_there = true;
    if (agrees(wishes.tuning, name_of(choice.images), choice.own_images)) best = &choice;
  }
  if (best) return *best;
  if (isa_is_there) {
    throw std::runtime_error(std::string(wishes.tuning.asked_by) + " asks for the tuning '" + wishes.tuning.name +
                             "', but there are only: " + available_tunings());
  }
  throw std::runtime_error(std::string(wishes.isa.asked_by) + " asks for the instruction set '" + wishes.isa.name +
                           "', but this CPU and this build have only: " + available_isas());
}

std::mutex guard;
std::atomic<const Choice*> current{nullptr};

// under the guard
Wishes& wishes() {
  static Wishes all{in_environment("EFCN_CPU_ISA"), in_environment("EFCN_CPU_TUNING")};
  return all;
}

const Choice& chosen() {
  if (const Choice* choice = current.load()) return *choice;
  const std::lock_guard<std::mutex> lock(guard);
  const Choice& choice = choose(wishes());
  current.store(&choice);
  return choice;
}

// returns the name that was asked for before
std::string force(Wish Wishes::* axis, const std::string& name, const char* asked_by) {
  const std::lock_guard<std::mutex> lock(guard);
  Wishes wanted = wishes();
  std::string before = (wanted.*axis).name;
  (wanted.*axis).name = name;
  (wanted.*axis).asked_by = asked_by;
  current.store(&choose(wanted));
  wishes() = wanted;
  return before;
}

}  // namespace

const KernelTable& kernels() { return chosen().table; }

const char* tuning() { return name_of(chosen().images); }

std::string available_isas() {
  std::string names;
  for (const Choice& choice : runnable()) {
    if (choice.images == Images::copied) names += (names.empty() ? "" : ",") + std::string(choice.table.name);
  }
  return names;
}

std::string available_tunings() {
  std::string names;
  for (Images images : all_images) names += (names.empty() ? "" : ",") + std::string(name_of(images));
  return names;
}

void force_isa(const std::string& name) { force(&Wishes::isa, name, "set_isa"); }

std::string force_tuning(const std::string& name) { return force(&Wishes::tuning, name, "set_tuning"); }

}  // namespace efcn
