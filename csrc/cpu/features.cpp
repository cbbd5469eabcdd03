#include "features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace efcn {
namespace {

#if defined(__x86_64__)
bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;
#if defined(__linux__)
  // the system hands the tiles out on request only (ARCH_REQ_XCOMP_PERM for XTILEDATA)
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
  return false;
#endif
}
#endif

Features ask() {
  Features f;
#if defined(__x86_64__)
  // these ask the operating system too whether it saves the wide registers
  __builtin_cpu_init();
  f.by_amd = __builtin_cpu_is("amd");
  f.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  f.avx512 = f.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
  f.avx512_bf16 = f.avx512 && __builtin_cpu_supports("avx512bf16");
  f.amx = f.avx512 && has_amx();
#endif
  return f;
}

}  // namespace

const Features& features() {
  static const Features here = ask();
  return here;
}

}  // namespace efcn
