// what the CPU at hand has
#pragma once

namespace efcn {

// each with all that its kernels use, and with the system's leave
struct Features {
  // and FMA
  bool avx2 = false;
  // F, BW, DQ and VL
  bool avx512 = false;
  // dot products of pairs of bfloat16
  bool avx512_bf16 = false;
  // matrix tiles, and bfloat16 in them
  bool amx = false;
  bool by_amd = false;
};

// asked for once
const Features& features();

}  // namespace efcn
