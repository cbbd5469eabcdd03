// block patterns as CSR, built in time linear in what is stored; free of torch and of Python
#pragma once

#include <cstdint>
#include <vector>

namespace efcn {

using Indices = std::vector<int32_t>;

struct Csr {
  // rows + 1 offsets, then one column per block
  Indices start, column;
};

struct Compressed {
  Csr csr;
  // the block number of each pair given
  Indices block;
};

struct Transposed {
  Csr csr;
  // the block number in the original order
  Indices block;
};

// a borrowed array
struct Span {
  const int32_t* data;
  int64_t size;
  int32_t operator[](int64_t i) const { return data[i]; }
};

// (row, col) pairs in any order, with repetitions -> sorted distinct columns per row; O(pairs x log of the pairs in a row).
// throws std::invalid_argument naming the pair whose row or column is out of range
Compressed compress(int64_t rows, int64_t cols, Span row, Span col);

// blocks by column, those of a column in the order of their rows; O(blocks + cols). throws as `check`, except for the order in a row
Transposed transpose(int64_t cols, Span start, Span column);

// throws std::invalid_argument unless (start, column) is a CSR pattern with strictly ascending columns in range
void check(int64_t cols, Span start, Span column);

}  // namespace efcn
