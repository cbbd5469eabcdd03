// forward and grad-input: y[n, r] = bias[r] + sum over the entries e of row r of A(e) @ x[n, source[e]]
#pragma once

#include "config.h"
#include "pipeline.h"
#include "window.h"

namespace efcn {

// A program has M x N sums: M channels of y, of one row or of all channels of several neighbours, and N images. The depth is the rows'
// whole window as one axis, in-channels of each entry: 16 taps of 3 channels are 48 steps of one sum.
template <class C>
struct Product {
  using T = typename C::T;
  using Sum = typename C::Sum;
  using A = typename C::A;
  using B = typename C::B;

  // a thread's place in the window: the line of the depth that it looks up, one step ahead, and what it found there. Without the step ahead
  // everybody would wait for one warp that waits for memory
  struct Lane : C::Multiplier::Lane {
    int32_t entry, channel, source, block;
  };
  // of a line of y: which member's channel it is (channel -1: nobody's), and where its weights begin within a block
  struct Row {
    int64_t weights;
    int32_t member, channel;
  };
  // where there is nothing: aligned, and negative whatever is added to it, another of its kind too, because no tensor has 2^40 numbers
  static constexpr int64_t nowhere = -(int64_t{1} << 40);
  // what a program's number means
  struct Place {
    int64_t row, channel, image;
    int members;
  };

  // for two steps: where each line of the depth begins in x, and for each member in the values
  static constexpr int lines_of_x = 2 * C::K * 8;
  static constexpr int a_at = 0, b_at = C::stages * A::bytes, x_at = b_at + C::stages * B::bytes, rows_at = x_at + lines_of_x;
  static constexpr int blocks_at = rows_at + C::M * static_cast<int>(sizeof(Row));
  EFCN_HD static int64_t window_at(const ProductJob& job) { return blocks_at + lines_of_x * job.members; }
  EFCN_HD static int64_t shared_bytes(const ProductJob& job) {
    return window_at(job) + (job.members > 1 ? static_cast<int64_t>(sizeof(Window::Merged)) : 0);
  }

  EFCN_HD static int64_t image_tiles(const ProductJob& job) { return (job.batch + C::N - 1) / C::N; }
  EFCN_HD static int64_t channel_tiles(const ProductJob& job) { return job.members > 1 ? 1 : (job.out + C::M - 1) / C::M; }
  EFCN_HD static int64_t programs(const ProductJob& job) {
    return (job.rows + job.members - 1) / job.members * channel_tiles(job) * image_tiles(job);
  }

  // programs of the same rows follow each other: their weights come from memory once, and their neighbours find common inputs in L2
  EFCN_HD static Place place(const ProductJob& job, int64_t program) {
    const int64_t images = image_tiles(job), channels = channel_tiles(job);
    Place p{};
    p.image = program % images * C::N;
    p.channel = program / images % channels * C::M;
    p.row = program / (images * channels) * job.members;
    p.members = static_cast<int>(p.row + job.members > job.rows ? job.rows - p.row : job.members);
    return p;
  }

  EFCN_HD static Row row_of(const ProductJob& job, const Place& p, int line) {
    const int out = static_cast<int>(job.out), member = job.members == 1 ? 0 : line / out;
    const int64_t channel = job.members == 1 ? p.channel + line : line - member * out;
    if (member >= p.members || channel >= out) return {nowhere, 0, -1};
    return {channel * job.a_out, member, static_cast<int32_t>(channel)};
  }

  EFCN_HD static int64_t weights_of(const ProductJob& job, int64_t block, int32_t channel) {
    return block < 0 ? nowhere : block * (job.out * job.in) + channel * job.a_in;
  }

  template <class Warp>
  EFCN_HD static void run(Warp& warp, const ProductJob& job, int64_t program, char* shared) {
    const Place p = place(job, program);
    int64_t* x_lines = reinterpret_cast<int64_t*>(shared + x_at);
    int64_t* blocks = reinterpret_cast<int64_t*>(shared + blocks_at);
    Row* rows = reinterpret_cast<Row*>(shared + rows_at);
    const Window window{job.begin, job.source, job.number, p.row, p.members, reinterpret_cast<Window::Merged*>(shared + window_at(job))};
    const T *values = static_cast<const T*>(job.values), *x = static_cast<const T*>(job.x.data);
    const int32_t in = static_cast<int32_t>(job.in), members = static_cast<int32_t>(job.members);

    window.template merge<C::threads>(warp);
    warp.each([&](Lane& lane, int thread) {
      C::Multiplier::each_sum(lane, thread % 32, [](int, int, Sum& sum) { sum = 0; });
      for (int line = thread; line < C::M; line += C::threads) rows[line] = row_of(job, p, line);
    });
    warp.sync();
    // a single row's entries are looked up in memory
    const int32_t size = in == 0 ? 0 : window.size(), first = job.begin[p.row];
    const auto look_up = [&](Lane& lane) {
      if (lane.entry >= size) return;
      lane.source = job.source[first + lane.entry];
      lane.block = job.number ? job.number[first + lane.entry] : first + lane.entry;
    };
    warp.each([&](Lane& lane, int thread) {
      lane.entry = in == 0 ? 0 : thread % C::K / in;
      lane.channel = thread % C::K - lane.entry * in;
      lane.source = lane.block = 0;
      if (members == 1 && thread < C::K) look_up(lane);
    });
    const int32_t entries_a_step = in == 0 ? 0 : C::K / in, channels_a_step = C::K - entries_a_step * in;

    const auto prepare = [&](int step) {
      warp.each([&](Lane& lane, int thread) {
        const int k = thread % C::K, slot = step % 2;
        const bool exists = lane.entry < size;
        if (members == 1) {
          if (thread < C::K) {
            x_lines[slot * C::K + k] = exists ? lane.source * job.x.site + lane.channel * job.x.channel : nowhere;
            blocks[slot * C::K + k] = exists ? weights_of(job, lane.block, lane.channel) : nowhere;
          }
        } else {
          const auto found = exists ? window.entry(lane.entry) : Window::Entry{0, 0, 0};
          for (int member = thread / C::K; member < members; member += C::threads / C::K) {
            if (member == 0) x_lines[slot * C::K + k] = exists ? found.source * job.x.site + lane.channel * job.x.channel : nowhere;
            const int64_t block = exists && member < p.members ? window.block(found.block, found.only, member) : -1;
            blocks[(slot * members + member) * C::K + k] = weights_of(job, block, lane.channel);
          }
        }
        lane.entry += entries_a_step;
        lane.channel += channels_a_step;
        if (lane.channel >= in) {
          lane.channel -= in;
          ++lane.entry;
        }
        if (members == 1 && thread < C::K) look_up(lane);
      });
    };
    const int images = static_cast<int>(job.batch - p.image < C::N ? job.batch - p.image : C::N);
    const auto ask = [&](int step, int slot) {
      const int64_t *now = x_lines + step % 2 * C::K, *weights = blocks + step % 2 * members * C::K;
      stage<A, C::a_bytes, C::threads>(warp, shared + a_at + slot * A::bytes, [&](int line, int k) -> Piece<T> {
        const Row row = rows[line];
        const int64_t at = weights[row.member * C::K + k] + row.weights;
        return {values + at, at < 0 ? 0 : C::a_bytes / static_cast<int>(sizeof(T))};
      });
      stage<B, C::b_bytes, C::threads>(warp, shared + b_at + slot * B::bytes, [&](int line, int k) -> Piece<T> {
        constexpr int width = C::b_bytes / static_cast<int>(sizeof(T)), along = B::along == Along::rows ? width : 1;
        // what is copied several numbers at a time lies one behind the other
        const int64_t n = p.image + line, at = now[k] + (along > 1 ? n : n * job.x.batch);
        return {x + at, at < 0 ? 0 : inside(images - line, along) * (width / along)};
      });
    };
    const int row = warp.index() % (C::M / C::WM) * C::WM, column = warp.index() / (C::M / C::WM) * C::WN;
    const auto multiply = [&](int slot) {
      C::Multiplier::template multiply<A, B, C::K>(warp, shared + a_at + slot * A::bytes, shared + b_at + slot * B::bytes, row, column);
    };
    pipeline<C::stages>(warp, (size * in + C::K - 1) / C::K, prepare, ask, multiply);

    const T* bias = static_cast<const T*>(job.bias);
    T* y = static_cast<T*>(job.y.data);
    warp.each([&](Lane& lane, int thread) {
      C::Multiplier::each_sum(lane, thread % 32, [&](int i, int j, Sum& sum) {
        const Row mine = rows[row + i];
        const int64_t n = p.image + column + j, r = p.row + mine.member;
        if (mine.channel < 0 || column + j >= images) return;
        const Sum offset = bias ? wide(bias[r * job.out + mine.channel]) : Sum(0);
        warp.write(y + n * job.y.batch + r * job.y.site + mine.channel * job.y.channel, narrow<T>(sum + offset));
      });
    });
  }
};

}  // namespace efcn
