// what a micro-architecture decides within its instruction set: how a product takes its images. Never the order of a sum, so that all give
// the same bits
#pragma once

#include "kernel_table.h"
#include "tile.h"

namespace efcn {
namespace EFCN_ISA {

struct Tuning {
  // steps of the reduction that all rows pass by before the next ones
  int64_t chunk;
  // vectors of the widest panel that is copied
  int64_t panel;
  // steps that the images are asked for ahead; 0: never, as a panel has just been written
  int ahead;
};

// Copied: a chunk's panel of b, copied side by side, aligned and converted, stays in the first-level cache while all rows pass by: 96 steps
// with AVX-512. On conv2 of AlexNet (Xeon) 128 steps gave the same, 192 and 256 were 5 to 9 % slower
constexpr int64_t panel_bytes = 24 << 10;
constexpr Tuning copied = {panel_bytes / (tile_vectors(tile_rows) * EFCN_VECTOR_BYTES), tile_vectors(1), 0};
// worth it where at least so many bands of rows use a panel
constexpr int64_t worth_packing = 3;

// In place: b is read where it lies. Vectors that straddle two lines are loaded at half the rate, which costs nothing where a multiply-add
// of 512 bits takes two rounds anyway (Zen 4: all layers of AlexNet at 85 to 91 % of the peak against 77 to 86 % with copies). A chunk is
// then bounded by the second-level cache: 512 steps, 128 KiB of b with AVX-512. 192 and 256 were 1 to 3 % slower, for the sums pass by more
// often. What comes from the third level the first time is asked for 20 steps ahead: 12 to 48 gave the same, none was 1 to 5 % slower, 9 %
// for 3 channels. Only a batch of less than a vector is copied, to fill it up
constexpr Tuning in_place = {512, 1, 20};

constexpr Tuning tuning_of(Images images) { return images == Images::in_place ? in_place : copied; }

}  // namespace EFCN_ISA
}  // namespace efcn
