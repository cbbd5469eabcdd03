// scratch memory that outlives a call
#pragma once

#include <cstddef>

namespace efcn {

// asks the system to back memory that nobody has touched yet by large pages: without, the page faults of a fresh output and the misses of
// its many small pages cost about a quarter of the time (64->64 k3 @32, N = 250, one thread: 88 / 84 / 94 GFLOP/s without, 113 / 110 / 128
// with)
void prefer_large_pages(void* begin, size_t bytes);

// uninitialised, on a cache line boundary; given back when it goes out of scope
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(size_t bytes);
  Scratch(Scratch&& other) noexcept : data_(other.data_), bytes_(other.bytes_) { other.data_ = nullptr; }
  Scratch& operator=(Scratch&& other) noexcept;
  ~Scratch();

  void* get() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace efcn
