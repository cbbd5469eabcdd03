// view (any strides) <-> rows[site][channel][pitch], batch innermost
#pragma once

#include "convert.h"

namespace efcn {
namespace EFCN_ISA {

// the (site, channel) pairs in the order of the view's memory
struct Lines {
  int64_t inner, inner_stride, outer_stride;
  bool channel_inside;
  int64_t sites, channels, pitch;

  explicit Lines(const PackJob& job)
      : channel_inside(job.channels > 1 && (job.sites == 1 || job.view.channel <= job.view.site)),
        sites(job.sites),
        channels(job.channels),
        pitch(job.pitch) {
    inner = channel_inside ? channels : sites;
    inner_stride = channel_inside ? job.view.channel : job.view.site;
    outer_stride = channel_inside ? job.view.site : job.view.channel;
  }
  int64_t offset(int64_t j) const { return j / inner * outer_stride + j % inner * inner_stride; }
  int64_t row(int64_t j) const {
    const int64_t major = j / inner, minor = j % inner;
    return (channel_inside ? j : minor * channels + major) * pitch;
  }
  // lines [j, j + count) follow each other without a gap in the view
  bool adjacent(int64_t j, int64_t count) const {
    if (inner_stride != 1) return false;
    return outer_stride == inner || j / inner == (j + count - 1) / inner;
  }
};

// squares of L lines by L images that are taken together: neighbouring lines share pages and often cache lines of the view, which the next
// images do not
constexpr int64_t most_squares = 4;

template <class S>
void pack_block(const PackJob& job, const Lines& lines_of, int64_t j, int64_t squares) {
  using T = Compute<S>;
  constexpr int L = lanes<T>;
  const S* from = static_cast<const S*>(job.view.data) + lines_of.offset(j);
  S* rows[most_squares * L];
  for (int i = 0; i < squares * L; ++i) rows[i] = static_cast<S*>(job.rows) + lines_of.row(j + i);
  for (int64_t n = 0; n < job.batch; n += L) {
    for (int64_t s = 0; s < squares; ++s) {
      const S* corner = from + n * job.view.batch + s * L;
      Vec<T> v[L];
      if (n + L <= job.batch) {
        for (int i = 0; i < L; ++i) v[i] = load_as(corner + i * job.view.batch);
      } else {
        for (int i = 0; i < L; ++i) v[i] = n + i < job.batch ? load_as(corner + i * job.view.batch) : Vec<T>{};
      }
      for (int i = 0; i < L; ++i) __builtin_prefetch(corner + (L + i) * job.view.batch);
      transpose<T>(v);
      for (int i = 0; i < L; ++i) store_as(rows[s * L + i] + n, v[i]);
    }
  }
}

template <class S>
void unpack_block(const PackJob& job, const Lines& lines_of, int64_t j, int64_t squares) {
  using T = Compute<S>;
  constexpr int L = lanes<T>;
  S* to = static_cast<S*>(job.view.data) + lines_of.offset(j);
  const S* rows[most_squares * L];
  for (int i = 0; i < squares * L; ++i) rows[i] = static_cast<S*>(job.rows) + lines_of.row(j + i);
  for (int64_t n = 0; n < job.batch; n += L) {
    const int count = job.batch - n < L ? static_cast<int>(job.batch - n) : L;
    for (int64_t s = 0; s < squares; ++s) {
      Vec<T> v[L];
      for (int i = 0; i < L; ++i) v[i] = load_as(rows[s * L + i] + n);
      transpose<T>(v);
      for (int i = 0; i < count; ++i) store_as(to + (n + i) * job.view.batch + s * L, v[i]);
    }
  }
}

template <class S>
void pack_line(const PackJob& job, const Lines& lines_of, int64_t j) {
  const S* from = static_cast<const S*>(job.view.data) + lines_of.offset(j);
  S* to = static_cast<S*>(job.rows) + lines_of.row(j);
  if (job.view.batch == 1) {
    __builtin_memcpy(to, from, static_cast<size_t>(job.batch) * sizeof(S));
  } else {
    for (int64_t n = 0; n < job.batch; ++n) to[n] = from[n * job.view.batch];
  }
  for (int64_t n = job.batch; n < job.pitch; ++n) to[n] = S{};
}

template <class S>
void unpack_line(const PackJob& job, const Lines& lines_of, int64_t j) {
  S* to = static_cast<S*>(job.view.data) + lines_of.offset(j);
  const S* from = static_cast<const S*>(job.rows) + lines_of.row(j);
  for (int64_t n = 0; n < job.batch; ++n) to[n * job.view.batch] = from[n];
}

template <class S, bool Pack>
void pack_task(const PackJob& job, int64_t task) {
  constexpr int L = lanes<Compute<S>>;
  const Lines lines_of(job);
  const int64_t count = job.sites * job.channels, groups = divide_up(count, L);
  const int64_t last = part_start(groups, job.parts, task + 1);
  for (int64_t group = part_start(groups, job.parts, task); group < last; ++group) {
    const int64_t j = group * L;
    int64_t squares = 0;
    while (job.view.batch != 1 && squares < most_squares && group + squares < last && j + (squares + 1) * L <= count &&
           lines_of.adjacent(j, (squares + 1) * L)) {
      ++squares;
    }
    if (squares > 0) {
      if constexpr (Pack)
        pack_block<S>(job, lines_of, j, squares);
      else
        unpack_block<S>(job, lines_of, j, squares);
      group += squares - 1;
      continue;
    }
    for (int64_t i = j; i < j + L && i < count; ++i) {
      if constexpr (Pack)
        pack_line<S>(job, lines_of, i);
      else
        unpack_line<S>(job, lines_of, i);
    }
  }
}

}  // namespace EFCN_ISA
}  // namespace efcn
