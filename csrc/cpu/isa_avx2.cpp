#define EFCN_ISA isa_avx2
#define EFCN_ISA_NAME "avx2"
#define EFCN_REGISTERS 16
#define EFCN_TILE_ROWS 4
#define EFCN_VECTOR_BYTES 32

#include "kernels.h"

namespace efcn {
constexpr KernelTable kernels_avx2 = EFCN_ISA::make_table();
}  // namespace efcn
