// what every CPU of the platform has: SSE2 on x86-64, NEON on aarch64
#if defined(__aarch64__)
#define EFCN_ISA isa_neon
#define EFCN_ISA_NAME "neon"
#define EFCN_REGISTERS 32
#define EFCN_TILE_ROWS 6
#else
#define EFCN_ISA isa_base
#define EFCN_ISA_NAME "base"
// without fused multiply-add one register holds the product
#define EFCN_REGISTERS 15
#define EFCN_TILE_ROWS 4
#endif
#define EFCN_VECTOR_BYTES 16

#include "kernels.h"

namespace efcn {
constexpr KernelTable kernels_base = EFCN_ISA::make_table();
}  // namespace efcn
