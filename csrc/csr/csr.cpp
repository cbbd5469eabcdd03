#include "csr.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

namespace efcn {
namespace {

constexpr int64_t most = std::numeric_limits<int32_t>::max();

void require(bool good, const std::string& message) {
  if (!good) throw std::invalid_argument(message);
}

std::string text(int64_t value) { return std::to_string(value); }

void check_count(const char* name, int64_t count) {
  require(count >= 0 && count <= most, std::string(name) + " must be between 0 and 2^31 - 1, got " + text(count));
}

void check_offsets(Span start, Span column) {
  require(start.size > 0, "crow must hold at least one offset, got an empty array");
  check_count("the number of blocks", column.size);
  require(start[0] == 0, "crow must start with 0, got " + text(start[0]));
  for (int64_t p = 0; p + 1 < start.size; ++p) {
    if (start[p] > start[p + 1]) {
      require(false, "crow must not decrease, got crow[" + text(p) + "] = " + text(start[p]) + " and crow[" + text(p + 1) +
                         "] = " + text(start[p + 1]));
    }
  }
  require(start[start.size - 1] == column.size,
          "crow must end with the number of blocks, " + text(column.size) + ", got " + text(start[start.size - 1]));
}

void check_range(const char* name, Span values, int64_t limit) {
  for (int64_t i = 0; i < values.size; ++i) {
    if (values[i] < 0 || values[i] >= limit) {
      require(false, std::string(name) + " must be between 0 and " + text(limit - 1) + ", got " + name + "[" + text(i) +
                         "] = " + text(values[i]) + (limit == 0 ? " although there are no sites" : ""));
    }
  }
}

// values[0 .. n] of counts shifted by one -> offsets
void accumulate(Indices& counts) {
  for (size_t i = 1; i < counts.size(); ++i) counts[i] += counts[i - 1];
}

}  // namespace

Compressed compress(int64_t rows, int64_t cols, Span row, Span col) {
  check_count("out_sites", rows);
  check_count("in_sites", cols);
  require(row.size == col.size, "row and col must have one length, got " + text(row.size) + " and " + text(col.size));
  check_count("the number of pairs", row.size);
  check_range("row", row, rows);
  check_range("col", col, cols);

  // counting sort by row
  Indices offset(static_cast<size_t>(rows) + 1, 0);
  for (int64_t t = 0; t < row.size; ++t) ++offset[row[t] + 1];
  accumulate(offset);
  Indices sorted(static_cast<size_t>(row.size));
  Indices cursor(offset.begin(), offset.end() - 1);
  for (int64_t t = 0; t < row.size; ++t) sorted[cursor[row[t]]++] = col[t];

  Compressed result;
  result.csr.start.assign(static_cast<size_t>(rows) + 1, 0);
  auto end = sorted.begin();
  for (int64_t p = 0; p < rows; ++p) {
    const auto from = sorted.begin() + offset[p], to = sorted.begin() + offset[p + 1];
    if (!std::is_sorted(from, to)) std::sort(from, to);
    // rows only shrink, so the write position never overtakes the read position
    end = std::unique_copy(from, to, end);
    result.csr.start[p + 1] = static_cast<int32_t>(end - sorted.begin());
  }
  sorted.erase(end, sorted.end());
  result.block.resize(static_cast<size_t>(row.size));
  for (int64_t t = 0; t < row.size; ++t) {
    const auto from = sorted.begin() + result.csr.start[row[t]], to = sorted.begin() + result.csr.start[row[t] + 1];
    result.block[t] = static_cast<int32_t>(std::lower_bound(from, to, col[t]) - sorted.begin());
  }
  result.csr.column = std::move(sorted);
  return result;
}

Transposed transpose(int64_t cols, Span start, Span column) {
  check_count("in_sites", cols);
  check_offsets(start, column);
  check_range("col", column, cols);
  Transposed result;
  result.csr.start.assign(static_cast<size_t>(cols) + 1, 0);
  for (int64_t b = 0; b < column.size; ++b) ++result.csr.start[column[b] + 1];
  accumulate(result.csr.start);
  result.csr.column.resize(static_cast<size_t>(column.size));
  result.block.resize(static_cast<size_t>(column.size));
  Indices cursor(result.csr.start.begin(), result.csr.start.end() - 1);
  for (int64_t p = 0; p + 1 < start.size; ++p) {
    for (int32_t b = start[p]; b < start[p + 1]; ++b) {
      const int32_t t = cursor[column[b]]++;
      result.csr.column[t] = static_cast<int32_t>(p);
      result.block[t] = b;
    }
  }
  return result;
}

void check(int64_t cols, Span start, Span column) {
  check_count("in_sites", cols);
  check_offsets(start, column);
  check_range("col", column, cols);
  for (int64_t p = 0; p + 1 < start.size; ++p) {
    for (int64_t b = int64_t{start[p]} + 1; b < start[p + 1]; ++b) {
      if (column[b - 1] >= column[b]) {
        require(false, "columns must ascend strictly within a row, got col[" + text(b - 1) + "] = " + text(column[b - 1]) + " and col[" +
                           text(b) + "] = " + text(column[b]) + " in row " + text(p));
      }
    }
  }
}

}  // namespace efcn
