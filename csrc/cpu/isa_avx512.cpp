#define EFCN_ISA isa_avx512
#define EFCN_ISA_NAME "avx512"
#define EFCN_REGISTERS 32
#define EFCN_TILE_ROWS 6
#define EFCN_VECTOR_BYTES 64

#include "kernels.h"

namespace efcn {
constexpr KernelTable kernels_avx512 = EFCN_ISA::make_table();
}  // namespace efcn
