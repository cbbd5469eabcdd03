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

template <class OfLane>
class EmulatedWarp {
 public:
  using Lane = OfLane;

  EmulatedWarp(int index, Memory& memory, const Schedule& schedule) : index_(index), memory_(memory), schedule_(schedule), lanes_(32) {
    // registers hold anything before they are written
    memset(static_cast<void*>(lanes_.data()), 0xff, lanes_.size() * sizeof(Lane));
  }

  template <class Do>
  void each(Do work) {
    for (int i = 0; i < 32; ++i) {
      const int lane = schedule_.backwards ? 31 - i : i;
      read_by_ = &reads_[lane];
      work(lanes_[lane], index_ * 32 + lane);
    }
    read_by_ = nullptr;
    count_conflicts();
  }
  int index() const { return index_; }

  void sync() {
    if (schedule_.late) land();
    Fibers::barrier();
  }

  template <class T>
  T read(const T* from) {
    memory_.check(from, sizeof(T), sizeof(T), Memory::Use::read);
    if (read_by_ && memory_.is_shared(from)) read_by_->push_back({reinterpret_cast<uintptr_t>(from), static_cast<int>(sizeof(T))});
    return *from;
  }
  template <class T>
  void write(T* to, T number) {
    if (memory_.check(to, sizeof(T), sizeof(T), Memory::Use::write)) *to = number;
  }

  template <class Predicate>
  uint32_t ballot(Predicate predicate) {
    uint32_t found = 0;
    for (int lane = 0; lane < 32; ++lane) found |= static_cast<uint32_t>(predicate(index_ * 32 + lane)) << lane;
    return found;
  }

  template <int BYTES>
  void copy(void* to, const void* from, int valid) {
    if (valid < 0 || valid > BYTES) return memory_.fail("a copy of " + std::to_string(valid) + " of " + std::to_string(BYTES) + " bytes");
    if (!memory_.check(to, BYTES, BYTES, Memory::Use::shared)) return;
    // cp.async wants an aligned address even for what it does not read
    if (!memory_.check(from, valid, BYTES, Memory::Use::copy)) return;
    Copy copied{to, {}, BYTES};
    memcpy(copied.bytes.data(), from, static_cast<size_t>(valid));
    if (schedule_.late && BYTES > 2) {
      open_.push_back(copied);
    } else {
      copied.land();
    }
  }
  void commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
  }
  template <int PENDING>
  void wait() {
    while (groups_.size() > PENDING) {
      arrived_.insert(arrived_.end(), groups_.front().begin(), groups_.front().end());
      groups_.erase(groups_.begin());
    }
  }
  bool is_waiting() const { return !open_.empty() || !groups_.empty(); }

  template <bool TRANSPOSED, class Address, class Target>
  void load_matrices(Address address, Target target) {
    std::array<const uint16_t*, 32> lines{};
    for (int lane = 0; lane < 32; ++lane) {
      lines[lane] = reinterpret_cast<const uint16_t*>(address(lane));
      if (!memory_.check(lines[lane], 16, 16, Memory::Use::shared)) return;
    }
    for (int matrix = 0; matrix < 4; ++matrix) {
      uint32_t banks = 0;
      for (int line = 0; line < 8; ++line) banks |= 1u << reinterpret_cast<uintptr_t>(lines[8 * matrix + line]) / 16 % 8;
      memory_.conflicts += 8 - __builtin_popcount(banks);
      for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        const auto number = [&](int row, int column) { return static_cast<uint32_t>(lines[8 * matrix + row][column]); };
        const uint32_t low = TRANSPOSED ? number(2 * t, g) : number(g, 2 * t),
                       high = TRANSPOSED ? number(2 * t + 1, g) : number(g, 2 * t + 1);
        target(lanes_[lane])[matrix] = low | high << 16;
      }
    }
  }

  // the fragments as the PTX manual draws them
  template <class T, class Sums, class Left, class Right>
  void multiply(Sums sums, Left left, Right right) {
    constexpr int depth = sizeof(T) == 4 ? 8 : 16;
    float a[16][depth], b[depth][8];
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4;
      const uint32_t *mine = left(lanes_[lane]), *other = right(lanes_[lane]);
      for (int s = 0; s < 4; ++s) {
        for (int half = 0; half < depth / 8; ++half) {
          const int k = depth == 8 ? s / 2 * 4 + t : s / 2 * 8 + 2 * t + half;
          a[g + s % 2 * 8][k] = number<T>(mine[s], half);
          if (s < 2) b[depth == 8 ? s * 4 + t : s * 8 + 2 * t + half][g] = number<T>(other[s], half);
        }
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      float* d = sums(lanes_[lane]);
      for (int s = 0; s < 4; ++s) {
        const int row = lane / 4 + s / 2 * 8, column = lane % 4 * 2 + s % 2;
        for (int k = 0; k < depth; ++k) d[s] += a[row][k] * b[k][column];
      }
    }
  }

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
      for (int first = 0; first < 32; first += at_once) {
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

  int index_;
  Memory& memory_;
  Schedule schedule_;
  std::vector<Lane> lanes_;
  std::vector<Copy> open_, arrived_;
  std::vector<std::vector<Copy>> groups_;
  std::array<std::vector<Read>, 32> reads_;
  std::vector<Read>* read_by_ = nullptr;
};

}  // namespace efcn
