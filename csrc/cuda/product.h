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

  // of a line of the depth: where it begins in x (-1: beyond the window), its channel and its blocks, see Window
  struct Column {
    int64_t x;
    int32_t channel, block, only;
  };
  // of a line of y: which member's channel it is (-1: nobody's)
  struct Row {
    int32_t member, channel;
  };
  // what a program's number means
  struct Place {
    int64_t row, channel, image;
    int members;
  };

  static constexpr int a_at = 0, b_at = C::stages * A::bytes, columns_at = b_at + C::stages * B::bytes;
  static constexpr int rows_at = columns_at + 2 * C::K * static_cast<int>(sizeof(Column));
  static constexpr int window_at = rows_at + C::M * static_cast<int>(sizeof(Row));
  EFCN_HD static int64_t shared_bytes(const ProductJob& job) {
    return window_at + (job.members > 1 ? static_cast<int64_t>(sizeof(Window::Merged)) : 0);
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
    if (job.members == 1) return p.channel + line < job.out ? Row{0, static_cast<int32_t>(p.channel + line)} : Row{-1, 0};
    const int out = static_cast<int>(job.out);
    return line / out < p.members ? Row{line / out, line % out} : Row{-1, 0};
  }

  EFCN_HD static Column column_of(const ProductJob& job, const Window& window, int32_t k) {
    // 64-bit division is a subroutine of a hundred instructions
    const int32_t in = static_cast<int32_t>(job.in), entry = in == 0 ? window.size() : k / in;
    if (entry >= window.size()) return {-1, 0, -1, 0};
    const auto found = window.entry(entry);
    const int32_t channel = k - entry * in;
    return {found.source * job.x.site + channel * job.x.channel, channel, found.block, found.only};
  }

  template <class Warp>
  EFCN_HD static void run(Warp& warp, const ProductJob& job, int64_t program, char* shared) {
    const Place p = place(job, program);
    Column* columns = reinterpret_cast<Column*>(shared + columns_at);
    Row* rows = reinterpret_cast<Row*>(shared + rows_at);
    const Window window{job.begin, job.source, job.number, p.row, p.members, reinterpret_cast<Window::Merged*>(shared + window_at)};
    const T *values = static_cast<const T*>(job.values), *x = static_cast<const T*>(job.x.data);

    warp.each([&](auto& lane, int thread) {
      C::Multiplier::each_sum(lane, thread % 32, [](int, int, Sum& sum) { sum = 0; });
      for (int line = thread; line < C::M; line += C::threads) rows[line] = row_of(job, p, line);
    });
    window.template merge<C::threads>(warp);
    warp.sync();
    const int64_t depth = window.size() * job.in;

    const auto prepare = [&](int step) {
      warp.each([&](auto&, int thread) {
        if (thread < C::K) columns[step % 2 * C::K + thread] = column_of(job, window, step * C::K + thread);
      });
    };
    const auto ask = [&](int step, int slot) {
      const Column* now = columns + step % 2 * C::K;
      stage<A, C::a_bytes, C::threads>(warp, shared + a_at + slot * A::bytes, [&](int line, int k) -> Piece<T> {
        const Row row = rows[line];
        const Column column = now[k];
        if (row.member < 0 || column.x < 0) return {values, 0};
        const int64_t block = window.block(column.block, column.only, row.member);
        if (block < 0) return {values, 0};
        return {values + block * (job.out * job.in) + row.channel * job.a_out + column.channel * job.a_in,
                C::a_bytes / static_cast<int>(sizeof(T))};
      });
      stage<B, C::b_bytes, C::threads>(warp, shared + b_at + slot * B::bytes, [&](int line, int k) -> Piece<T> {
        const int64_t n = p.image + line, at = now[k].x;
        constexpr int width = C::b_bytes / static_cast<int>(sizeof(T));
        if (at < 0) return {x, 0};
        return {x + at + n * job.x.batch, B::along == Along::rows ? inside(job.batch - n, width) : n < job.batch ? width : 0};
      });
    };
    const int row = warp.index() % (C::M / C::WM) * C::WM, column = warp.index() / (C::M / C::WM) * C::WN;
    const auto multiply = [&](int slot) {
      C::Multiplier::template multiply<A, B, C::K>(warp, shared + a_at + slot * A::bytes, shared + b_at + slot * B::bytes, row, column);
    };
    pipeline<C::stages>(warp, static_cast<int>((depth + C::K - 1) / C::K), prepare, ask, multiply);

    const T* bias = static_cast<const T*>(job.bias);
    T* y = static_cast<T*>(job.y.data);
    warp.each([&](auto& lane, int thread) {
      C::Multiplier::each_sum(lane, thread % 32, [&](int i, int j, Sum& sum) {
        const Row mine = rows[row + i];
        const int64_t n = p.image + column + j, r = p.row + mine.member;
        if (mine.member < 0 || n >= job.batch) return;
        const Sum offset = bias ? wide(bias[r * job.out + mine.channel]) : Sum(0);
        warp.write(y + n * job.y.batch + r * job.y.site + mine.channel * job.y.channel, narrow<T>(sum + offset));
      });
    });
  }
};

}  // namespace efcn
