// what a program's rows reduce over: the entries of one row as they lie in memory, or of several neighbours with each common source once
#pragma once

#include "numbers.h"

namespace efcn {

constexpr int most_members = 8;
// entries of all members together that are merged; longer windows follow each other instead. Unmeasured
constexpr int most_merged = 256;

// the entries of the rows `row` ... `row + members - 1`
struct Window {
  const int32_t *begin, *source, *number;
  int64_t row;
  int members;

  // in shared memory
  struct Merged {
    int32_t size;
    uint32_t first_of[most_merged / 32];
    int32_t source[most_merged];
    // [member][entry]: the block, or -1
    int32_t block[most_members * most_merged];
  };
  Merged* merged;

  // an entry: its source, and its block for the member `only`, or for every member merged->block[member][entry] where only is -1
  struct Entry {
    int32_t source, block, only;
  };

  EFCN_HD int32_t length(int member) const { return begin[row + member + 1] - begin[row + member]; }
  EFCN_HD int32_t total() const { return begin[row + members] - begin[row]; }
  EFCN_HD bool merges() const { return members > 1 && total() <= most_merged; }
  EFCN_HD int32_t size() const { return merges() ? merged->size : total(); }
  EFCN_HD int32_t block_at(int64_t place) const { return number ? number[place] : static_cast<int32_t>(place); }

  EFCN_HD int member_of(int32_t entry) const {
    int member = 0;
    while (member + 1 < members && begin[row] + entry >= begin[row + member + 1]) ++member;
    return member;
  }

  EFCN_HD Entry entry(int32_t index) const {
    if (merges()) return {merged->source[index], index, -1};
    const int64_t place = begin[row] + index;
    return {source[place], block_at(place), member_of(index)};
  }

  EFCN_HD int32_t block(int32_t entry_block, int32_t only, int member) const {
    if (only >= 0) return only == member ? entry_block : -1;
    return merged->block[member * most_merged + entry_block];
  }

  // where `site` is among the ascending sources of a member, or -1
  EFCN_HD int64_t find(int member, int32_t site) const {
    int64_t low = begin[row + member], high = begin[row + member + 1];
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (source[middle] < site) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < begin[row + member + 1] && source[low] == site ? low : -1;
  }

  EFCN_HD bool is_first(int member, int32_t site) const {
    for (int other = 0; other < member; ++other) {
      if (find(other, site) >= 0) return false;
    }
    return true;
  }

  // fill `merged`, by all threads; a barrier follows
  template <int THREADS, class Warp>
  EFCN_HD void merge(Warp& warp) const {
    if (!merges()) return;
    const int32_t entries = total();
    for (int start = 0; start < most_merged; start += THREADS) {
      const auto is_new = [&](int thread) {
        const int32_t entry = start + thread;
        return entry < entries && is_first(member_of(entry), source[begin[row] + entry]);
      };
      const uint32_t found = warp.ballot(is_new);
      warp.each([&](auto&, int thread) {
        if (thread % 32 == 0 && start + thread < most_merged) merged->first_of[(start + thread) / 32] = found;
      });
    }
    warp.sync();
    warp.each([&](auto&, int thread) {
      for (int32_t entry = thread; entry < entries; entry += THREADS) {
        if (merged->first_of[entry / 32] >> entry % 32 & 1) place(entry, ones_before(entry));
      }
      if (thread == 0) merged->size = ones_before(most_merged);
    });
  }

 private:
  EFCN_HD int ones_before(int entry) const {
    int found = 0;
    for (int word = 0; word < entry / 32; ++word) found += ones(merged->first_of[word]);
    return entry % 32 == 0 ? found : found + ones(merged->first_of[entry / 32] & ((1u << entry % 32) - 1));
  }

  EFCN_HD static int ones(uint32_t word) {
#ifdef __CUDA_ARCH__
    return __popc(word);
#else
    return __builtin_popcount(word);
#endif
  }

  EFCN_HD void place(int32_t entry, int at) const {
    const int32_t site = source[begin[row] + entry];
    merged->source[at] = site;
    for (int member = 0; member < members; ++member) {
      const int64_t found = find(member, site);
      merged->block[member * most_merged + at] = found < 0 ? -1 : block_at(found);
    }
  }
};

}  // namespace efcn
