// what a program may touch: every address that it reads or writes is looked up here
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace efcn {

// a copy of some numbers that ends where unreadable memory begins: reading past it ends the process
class Guarded {
 public:
  Guarded(const void* from, size_t bytes, size_t alignment) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t used = (bytes + page - 1) / page * page;
    size_ = used + page;
    pages_ = static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(pages_ + used, page, PROT_NONE);
    data_ = pages_ + (used - bytes) / alignment * alignment;
    if (from) {
      memcpy(data_, from, bytes);
    } else {
      memset(pages_, 0xff, used);
    }
  }
  ~Guarded() { munmap(pages_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  char* data() const { return data_; }

 private:
  char *pages_, *data_;
  size_t size_;
};

class Memory {
 public:
  enum class Use { read, copy, write, shared };

  // numbers of `size` bytes from `data` to the last one at `last`; how often each was copied or written is counted
  struct Region {
    const char* data;
    int64_t numbers;
    int size;
    bool writable;
    std::vector<int32_t> count;
  };

  void add(const void* data, int64_t numbers, int size, bool writable) {
    regions_.push_back({static_cast<const char*>(data), numbers, size, writable, std::vector<int32_t>(static_cast<size_t>(numbers))});
  }
  // all counts, one region after the other
  void counts(int32_t* to) const {
    for (const Region& region : regions_) to = std::copy(region.count.begin(), region.count.end(), to);
  }

  void share(char* data, int64_t bytes) { shared_ = data, shared_bytes_ = bytes; }
  bool is_shared(const void* at) const {
    const char* from = static_cast<const char*>(at);
    return from >= shared_ && from < shared_ + shared_bytes_;
  }

  [[gnu::noinline]] bool check(const void* at, int64_t bytes, int alignment, Use use) {
    const char* from = static_cast<const char*>(at);
    if (reinterpret_cast<uintptr_t>(from) % static_cast<uintptr_t>(alignment) != 0) return refuse("misaligned", bytes, alignment);
    if (use != Use::copy && use != Use::write && is_shared(from)) {
      return from + bytes <= shared_ + shared_bytes_ || refuse("beyond shared memory", bytes, alignment);
    }
    if (use == Use::shared) return refuse("outside shared memory", bytes, alignment);
    if (bytes == 0) return true;
    for (Region& region : regions_) {
      if (from < region.data || from + bytes > region.data + region.numbers * region.size) continue;
      if (use == Use::write && !region.writable) continue;
      if (use != Use::read) {
        for (int64_t i = (from - region.data) / region.size; i < (from - region.data + bytes) / region.size; ++i)
          ++region.count[static_cast<size_t>(i)];
      }
      return true;
    }
    return refuse("in no tensor", bytes, alignment);
  }

  void fail(const std::string& what) {
    if (message.empty()) message = what;
  }

  std::string message;
  int64_t conflicts = 0;

 private:
  bool refuse(const char* what, int64_t bytes, int alignment) {
    fail(std::string("an address ") + what + ", of " + std::to_string(bytes) + " bytes in pieces of " + std::to_string(alignment));
    return false;
  }

  std::vector<Region> regions_;
  char* shared_ = nullptr;
  int64_t shared_bytes_ = 0;
};

}  // namespace efcn
