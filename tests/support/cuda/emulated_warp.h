// csrc/cuda/warp.h on the host: a warp is a fiber whose 32 lanes do everything in turn, a barrier gives the turn to the next warp.
//
// It is stricter than a chip. What cp.async brings arrives either at once or as late as it may, as the test asks, so a tile that is
// overwritten too early or read too early shows in the numbers, with warps running far ahead of each other in any order. Memory that nobody
// has written is NaN, every address is checked, every written number counted.
#pragma once

#include <ucontext.h>

#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "memory.h"
#include "numbers.h"

namespace efcn {

// the order in which warps get their turns, and when copies arrive
struct Schedule {
  bool backwards, late;
};

class Fibers {
 public:
  using Body = std::function<void(int warp)>;

  // every body to its end; false where some wait at a barrier that others never reach
  static bool run(int warps, const Schedule& schedule, const Body& body) {
    Fibers all(warps, body);
    std::vector<int> order;
    for (int i = 0; i < warps; ++i) order.push_back(schedule.backwards ? warps - 1 - i : i);
    while (true) {
      int ended = 0;
      for (int warp : order) {
        if (!all.ended_[warp]) all.resume(warp);
        ended += all.ended_[warp];
      }
      if (ended == warps) return true;
      if (ended > 0) return false;
    }
  }

  // from within a body: until all others are here too
  static void barrier() { swapcontext(&current_->contexts_[current_->turn_], &current_->home_); }

 private:
  Fibers(int warps, const Body& body) : body_(body), contexts_(warps), stacks_(warps), ended_(warps) {
    for (int warp = 0; warp < warps; ++warp) {
      stacks_[warp].resize(1 << 18);
      getcontext(&contexts_[warp]);
      contexts_[warp].uc_stack.ss_sp = stacks_[warp].data();
      contexts_[warp].uc_stack.ss_size = stacks_[warp].size();
      contexts_[warp].uc_link = &home_;
      makecontext(&contexts_[warp], reinterpret_cast<void (*)()>(&Fibers::enter), 0);
    }
  }

  void resume(int warp) {
    current_ = this;
    turn_ = warp;
    swapcontext(&home_, &contexts_[warp]);
  }

  static void enter() {
    Fibers* mine = current_;
    const int warp = mine->turn_;
    mine->body_(warp);
    mine->ended_[warp] = true;
  }

  inline static Fibers* current_ = nullptr;
  const Body& body_;
  ucontext_t home_;
  std::vector<ucontext_t> contexts_;
  std::vector<std::vector<char>> stacks_;
  std::vector<char> ended_;
  int turn_ = 0;
};

// all that does not depend on what a lane keeps. Compiled once for each library and called: in line in each of its kernels it took g++ more
// than half of its time
class WarpBase {
 public:
  WarpBase(int index, Memory& memory, const Schedule& schedule) : index_(index), memory_(memory), schedule_(schedule) {}

  int index() const { return index_; }

  [[gnu::noinline]] void sync() {
    if (schedule_.late) land();
    Fibers::barrier();
  }

  template <class T>
  T read(const T* from) {
    look(from, sizeof(T));
    return *from;
  }
  template <class T>
  void write(T* to, T number) {
    if (memory_.check(to, sizeof(T), sizeof(T), Memory::Use::write)) *to = number;
  }

  template <int BYTES>
  void copy(void* to, const void* from, int valid) {
    copy_bytes(to, from, valid, BYTES);
  }
  [[gnu::noinline]] void commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
  }
  template <int PENDING>
  void wait() {
    wait_for(PENDING);
  }
  bool is_waiting() const { return !open_.empty() || !groups_.empty(); }

 protected:
  static constexpr int lanes = 32;

  // a lane's turn begins
  void turn(int lane) { read_by_ = &reads_[lane]; }
  [[gnu::noinline]] void end_of_turns() {
    read_by_ = nullptr;
    count_conflicts();
  }

  [[gnu::noinline]] void load_matrices(bool transposed, const std::array<const uint16_t*, lanes>& lines,
                                       const std::array<uint32_t*, lanes>& to) {
    for (const uint16_t* line : lines) {
      if (!memory_.check(line, 16, 16, Memory::Use::shared)) return;
    }
    for (int matrix = 0; matrix < 4; ++matrix) {
      uint32_t banks = 0;
      for (int line = 0; line < 8; ++line) banks |= 1u << reinterpret_cast<uintptr_t>(lines[8 * matrix + line]) / 16 % 8;
      memory_.conflicts += 8 - __builtin_popcount(banks);
      for (int lane = 0; lane < lanes; ++lane) {
        const int g = lane / 4, t = lane % 4;
        const auto number = [&](int row, int column) { return static_cast<uint32_t>(lines[8 * matrix + row][column]); };
        const uint32_t low = transposed ? number(2 * t, g) : number(g, 2 * t),
                       high = transposed ? number(2 * t + 1, g) : number(g, 2 * t + 1);
        to[lane][matrix] = low | high << 16;
      }
    }
  }

  using Fragments = std::array<const uint32_t*, lanes>;

  // the fragments as the PTX manual draws them
  template <class T>
  [[gnu::noinline]] static void multiply_fragments(const std::array<float*, lanes>& sums, const Fragments& left, const Fragments& right) {
    constexpr int depth = sizeof(T) == 4 ? 8 : 16;
    float a[16][depth], b[depth][8];
    for (int lane = 0; lane < lanes; ++lane) {
      const int g = lane / 4, t = lane % 4;
      for (int s = 0; s < 4; ++s) {
        for (int half = 0; half < depth / 8; ++half) {
          const int k = depth == 8 ? s / 2 * 4 + t : s / 2 * 8 + 2 * t + half;
          a[g + s % 2 * 8][k] = number<T>(left[lane][s], half);
          if (s < 2) b[depth == 8 ? s * 4 + t : s * 8 + 2 * t + half][g] = number<T>(right[lane][s], half);
        }
      }
    }
    for (int lane = 0; lane < lanes; ++lane) {
      float* d = sums[lane];
      for (int s = 0; s < 4; ++s) {
        const int row = lane / 4 + s / 2 * 8, column = lane % 4 * 2 + s % 2;
        for (int k = 0; k < depth; ++k) d[s] += a[row][k] * b[k][column];
      }
    }
  }

  int index_;
  Memory& memory_;
  Schedule schedule_;

 private:
  struct Copy {
    void* to;
    std::array<char, 16> bytes;
    int size;
    void land() const { memcpy(to, bytes.data(), static_cast<size_t>(size)); }
  };
  struct Read {
    uintptr_t at;
    int size;
  };

  [[gnu::noinline]] void look(const void* from, int size) {
    memory_.check(from, size, size, Memory::Use::read);
    if (read_by_ && memory_.is_shared(from)) read_by_->push_back({reinterpret_cast<uintptr_t>(from), size});
  }

  [[gnu::noinline]] void copy_bytes(void* to, const void* from, int valid, int size) {
    if (valid < 0 || valid > size) return memory_.fail("a copy of " + std::to_string(valid) + " of " + std::to_string(size) + " bytes");
    if (!memory_.check(to, size, size, Memory::Use::shared)) return;
    // cp.async wants an aligned address even for what it does not read
    if (!memory_.check(from, valid, size, Memory::Use::copy)) return;
    Copy copied{to, {}, size};
    memcpy(copied.bytes.data(), from, static_cast<size_t>(valid));
    if (schedule_.late && size > 2) {
      open_.push_back(copied);
    } else {
      copied.land();
    }
  }

  [[gnu::noinline]] void wait_for(size_t pending) {
    while (groups_.size() > pending) {
      arrived_.insert(arrived_.end(), groups_.front().begin(), groups_.front().end());
      groups_.erase(groups_.begin());
    }
  }

  void land() {
    for (const Copy& copied : arrived_) copied.land();
    arrived_.clear();
  }

  template <class T>
  static float number(uint32_t fragment, int half) {
    if constexpr (sizeof(T) == 4) {
      return bits_as<float>(fragment);
    } else {
      return wide(T{static_cast<uint16_t>(fragment >> 16 * half)});
    }
  }

  // lanes read their first numbers together, then their second ones, ...; words of one bank that differ are read one after the other
  void count_conflicts() {
    for (size_t i = 0; i < reads_[0].size(); ++i) {
      const int at_once = 32 * 4 / std::max(4, reads_[0][i].size);
      for (int first = 0; first < lanes; first += at_once) {
        std::array<std::vector<uintptr_t>, 32> words;
        for (int lane = first; lane < first + at_once && i < reads_[lane].size(); ++lane) {
          const uintptr_t word = reads_[lane][i].at / 4;
          auto& bank = words[word % 32];
          if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
        }
        size_t worst = 1;
        for (const auto& bank : words) worst = std::max(worst, bank.size());
        memory_.conflicts += static_cast<int64_t>(worst) - 1;
      }
    }
    for (auto& reads : reads_) reads.clear();
  }

  std::vector<Copy> open_, arrived_;
  std::vector<std::vector<Copy>> groups_;
  std::array<std::vector<Read>, lanes> reads_;
  std::vector<Read>* read_by_ = nullptr;
};

template <class OfLane>
class EmulatedWarp : public WarpBase {
 public:
  using Lane = OfLane;

  EmulatedWarp(int index, Memory& memory, const Schedule& schedule) : WarpBase(index, memory, schedule), lanes_(lanes) {
    // registers hold anything before they are written
    memset(static_cast<void*>(lanes_.data()), 0xff, lanes_.size() * sizeof(Lane));
  }

  template <class Do>
  void each(Do work) {
    for (int i = 0; i < lanes; ++i) {
      const int lane = schedule_.backwards ? lanes - 1 - i : i;
      turn(lane);
      work(lanes_[lane], index_ * lanes + lane);
    }
    end_of_turns();
  }

  template <class Predicate>
  uint32_t ballot(Predicate predicate) {
    uint32_t found = 0;
    for (int lane = 0; lane < lanes; ++lane) found |= static_cast<uint32_t>(predicate(index_ * lanes + lane)) << lane;
    return found;
  }

  template <bool TRANSPOSED, class Address, class Target>
  void load_matrices(Address address, Target target) {
    std::array<const uint16_t*, lanes> lines{};
    std::array<uint32_t*, lanes> to{};
    for (int lane = 0; lane < lanes; ++lane) {
      lines[lane] = reinterpret_cast<const uint16_t*>(address(lane));
      to[lane] = target(lanes_[lane]);
    }
    WarpBase::load_matrices(TRANSPOSED, lines, to);
  }

  template <class T, class Sums, class Left, class Right>
  void multiply(Sums sums, Left left, Right right) {
    std::array<float*, lanes> d{};
    Fragments a{}, b{};
    for (int lane = 0; lane < lanes; ++lane) d[lane] = sums(lanes_[lane]), a[lane] = left(lanes_[lane]), b[lane] = right(lanes_[lane]);
    multiply_fragments<T>(d, a, b);
  }

 private:
  std::vector<Lane> lanes_;
};

}  // namespace efcn
