// the loop of all kernels: tiles are asked for STAGES - 1 steps before they are multiplied
#pragma once

#include "numbers.h"

namespace efcn {

// prepare(step) computes the addresses of a step, one step before ask(step, slot) asks for its tiles; multiply(slot) reads them.
//
// One barrier a step is enough: behind it (1) the tiles of this step have arrived for all, (2) everybody has multiplied the step before,
// whose slot the newest tiles may take, (3) the addresses that ask reads were written before it, and those that prepare overwrites read
// before it.
template <int STAGES, class Warp, class Prepare, class Ask, class Multiply>
EFCN_HD void pipeline(Warp& warp, int steps, Prepare prepare, Ask ask, Multiply multiply) {
  static_assert(STAGES >= 2, "one tile is multiplied while another is on its way");
  prepare(0);
  warp.sync();
  for (int step = 0; step < STAGES - 1; ++step) {
    if (step < steps) ask(step, step);
    warp.commit();
    prepare(step + 1);
    warp.sync();
  }
  int slot = 0;
  for (int step = 0; step < steps; ++step) {
    warp.template wait<STAGES - 2>();
    warp.sync();
    const int next = step + STAGES - 1;
    if (next < steps) ask(next, slot == 0 ? STAGES - 1 : slot - 1);
    warp.commit();
    prepare(next + 1);
    multiply(slot);
    slot = slot == STAGES - 1 ? 0 : slot + 1;
  }
  // nothing is on its way into memory that the next user may have
  warp.template wait<0>();
}

}  // namespace efcn
