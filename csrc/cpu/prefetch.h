// memory that will be read soon, asked for bit by bit
#pragma once

#include "vec.h"

namespace efcn {
namespace EFCN_ISA {

constexpr int64_t cache_line = 64;

// weights come from memory once per pass, in strips too short for the hardware to foresee. Asking for the next chunk's while this one's
// tiles run: conv2 of AlexNet, two threads, forward 293 -> 306 and grad-input 240 -> 276 GFLOP/s
template <int64_t Most>
class Prefetch {
 public:
  // `count` strips of `length` elements, `stride` elements apart
  void add(const void* begin, int64_t element, int64_t count, int64_t stride, int64_t length) {
    if (stride == length) {
      length *= count;
      count = 1;
    }
    strips_[size_++] = {static_cast<const char*>(begin), count, stride * element, divide_up(length * element, cache_line) * cache_line};
  }

  // one part of `parts` at each call of some()
  void spread(int64_t parts) {
    int64_t lines = 0;
    for (int64_t i = 0; i < size_; ++i) lines += strips_[i].count * (strips_[i].bytes / cache_line);
    each_ = divide_up(lines, parts);
  }

  void some() {
    for (int64_t left = each_; left > 0 && current_ < size_;) {
      const Strip& strip = strips_[current_];
      for (; left > 0 && offset_ < strip.bytes; offset_ += cache_line, --left)
        __builtin_prefetch(strip.begin + row_ * strip.stride + offset_, 0, 2);
      if (offset_ < strip.bytes) return;
      offset_ = 0;
      if (++row_ < strip.count) continue;
      row_ = 0;
      ++current_;
    }
  }

 private:
  struct Strip {
    const char* begin;
    int64_t count, stride, bytes;
  };
  Strip strips_[Most];
  int64_t size_ = 0, each_ = 0, current_ = 0, row_ = 0, offset_ = 0;
};

}  // namespace EFCN_ISA
}  // namespace efcn
