// the compiled kernels by their numbers
#pragma once

#include "configs.h"

namespace efcn {

// visits the number-th kernel of a list
template <class Kernels, class Do>
void with(int number, Do work) {
  int at = 0;
  Kernels::each([&](auto of) {
    if (at++ == number) work(of);
  });
}

}  // namespace efcn
