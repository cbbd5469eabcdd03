// grad-weight: gvalues[e][o, c] = sum over n of gy[n, r, o] * x[n, source[e], c]
#pragma once

#include "config.h"
#include "pipeline.h"

namespace efcn {

// A program has M x N sums: M output channels, and N columns of a row's window, in-channels of each entry. The depth are the images, all of
// them: no sum is split, so results are the same from run to run.
template <class C>
struct Weight {
  using T = typename C::T;
  using Sum = typename C::Sum;
  using A = typename C::A;
  using B = typename C::B;

  using Lane = typename C::Multiplier::Lane;

  // of a column: where it begins in x (nowhere: beyond the window), and in gvalues
  struct Column {
    int64_t x, out;
  };
  // aligned, and negative whatever is added to it, because no tensor has 2^40 numbers
  static constexpr int64_t nowhere = -(int64_t{1} << 40);
  struct Place {
    int64_t row, channel, column;
  };

  static constexpr int a_at = 0, b_at = C::stages * A::bytes, columns_at = b_at + C::stages * B::bytes;
  EFCN_HD static int64_t shared_bytes(const WeightJob&) { return columns_at + C::N * static_cast<int64_t>(sizeof(Column)); }

  // each row gets as many tiles as whole ones end in it, and one more: so rows of any lengths make one list without asking how long they
  // are
  EFCN_HD static int64_t first_tile(const WeightJob& job, int64_t row) { return job.begin[row] * job.in / C::N + row; }
  EFCN_HD static int64_t channel_tiles(const WeightJob& job) { return (job.out + C::M - 1) / C::M; }
  EFCN_HD static int64_t programs(const WeightJob& job) { return (job.entries * job.in / C::N + job.rows) * channel_tiles(job); }

  // tiles of one row follow each other: they share its gy, and with their neighbours x
  EFCN_HD static Place place(const WeightJob& job, int64_t program) {
    const int64_t tile = program / channel_tiles(job);
    int64_t low = 0, high = job.rows;
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      if (first_tile(job, middle) <= tile) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return {low, program % channel_tiles(job) * C::M, (tile - first_tile(job, low)) * C::N};
  }

  EFCN_HD static Column column_of(const WeightJob& job, int64_t row, int64_t column) {
    const int64_t entry = job.begin[row] + column / job.in, channel = column % job.in;
    if (entry >= job.begin[row + 1]) return {nowhere, 0};
    return {job.source[entry] * job.x.site + channel * job.x.channel, entry * (job.out * job.in) + channel};
  }

  template <class Warp>
  EFCN_HD static void run(Warp& warp, const WeightJob& job, int64_t program, char* shared) {
    const Place p = place(job, program);
    if (p.column >= (job.begin[p.row + 1] - job.begin[p.row]) * job.in) return;
    Column* columns = reinterpret_cast<Column*>(shared + columns_at);
    const T *gy = static_cast<const T*>(job.gy.data) + p.row * job.gy.site + p.channel * job.gy.channel,
            *x = static_cast<const T*>(job.x.data);

    warp.each([&](Lane& lane, int thread) {
      C::Multiplier::each_sum(lane, thread % 32, [](int, int, Sum& sum) { sum = 0; });
      for (int j = thread; j < C::N; j += C::threads) columns[j] = column_of(job, p.row, p.column + j);
    });

    const int32_t batch = static_cast<int32_t>(job.batch);
    const int channels = static_cast<int>(job.out - p.channel < C::M ? job.out - p.channel : C::M);
    const auto ask = [&](int step, int slot) {
      // images that follow each other in memory may end within a piece; what is copied several at a time lies one behind the other
      constexpr int a_width = C::a_bytes / static_cast<int>(sizeof(T)), b_width = C::b_bytes / static_cast<int>(sizeof(T));
      constexpr int a_along = A::along == Along::depth ? a_width : 1, b_along = B::along == Along::depth ? b_width : 1;
      const int32_t first = step * C::K;
      stage<A, C::a_bytes, C::threads>(warp, shared + a_at + slot * A::bytes, [&](int line, int k) -> Piece<T> {
        const int64_t n = first + k, at = (a_along > 1 ? n : n * job.gy.batch) + line * job.gy.channel;
        return {gy + at, line < channels ? inside(batch - first - k, a_along) * (a_width / a_along) : 0};
      });
      stage<B, C::b_bytes, C::threads>(warp, shared + b_at + slot * B::bytes, [&](int line, int k) -> Piece<T> {
        const int64_t n = first + k, at = columns[line].x + (b_along > 1 ? n : n * job.x.batch);
        return {x + at, at < 0 ? 0 : inside(batch - first - k, b_along) * (b_width / b_along)};
      });
    };
    const int row = warp.index() % (C::M / C::WM) * C::WM, column = warp.index() / (C::M / C::WM) * C::WN;
    const auto multiply = [&](int slot) {
      C::Multiplier::template multiply<A, B, C::K>(warp, shared + a_at + slot * A::bytes, shared + b_at + slot * B::bytes, row, column);
    };
    pipeline<C::stages>(warp, static_cast<int>((job.batch + C::K - 1) / C::K), [](int) {}, ask, multiply);

    T* gvalues = static_cast<T*>(job.gvalues);
    warp.each([&](Lane& lane, int thread) {
      C::Multiplier::each_sum(lane, thread % 32, [&](int i, int j, Sum& sum) {
        const Column to = columns[column + j];
        const int64_t channel = p.channel + row + i;
        if (to.x >= 0 && channel < job.out) warp.write(gvalues + to.out + channel * job.in, narrow<T>(sum));
      });
    });
  }
};

}  // namespace efcn
