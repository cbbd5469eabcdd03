// what the kernels of a product share: the part of a target site that a task computes, and the chunks that its reduction is cut into
#pragma once

#include "convert.h"
#include "prefetch.h"
#include "tile.h"

namespace efcn {
namespace EFCN_ISA {

// bytes of a row of c that are computed together: with 384 rows 384 KiB in the second-level cache
constexpr int64_t row_bytes = 1024;

// a part of one block that a chunk reduces over: which one of the site's blocks, from which step, where its weights begin, its rows of b
template <class S>
struct Part {
  int64_t position, inside;
  int64_t a;
  const S* b;
  int64_t length;
};

// Steps: of the reduction in a chunk. Band: rows that a tile computes
template <class S, int64_t Steps, int64_t Band>
struct ProductSite {
  using T = Compute<S>;
  static constexpr int L = lanes<T>;
  static constexpr int64_t row_vectors = row_bytes / EFCN_VECTOR_BYTES;

  const ProductJob& job;
  // the site, or the first one of the group and how many they are
  const int64_t site, members;
  // of the rows of all members
  const Bands bands;
  // blocks of the site from here, and steps of its whole reduction
  const int64_t first, steps;

  // rows of the largest task
  static int64_t task_rows(const ProductJob& job) { return divide_up(divide_up(job.rows * job.members, Band), job.row_parts) * Band; }

  // the number of the task's site or group
  static int64_t place(const ProductJob& job, int64_t task) { return task / job.batch_parts % job.sites; }

  ProductSite(const ProductJob& j, int64_t task)
      : job(j),
        site(j.groups ? j.groups[place(j, task)] : place(j, task)),
        members(j.groups ? j.groups[place(j, task) + 1] - site : 1),
        bands(j.rows * members, Band, j.row_parts, task / j.batch_parts / j.sites),
        first(j.pattern.start[site]),
        steps((j.pattern.start[site + 1] - first) * j.depth) {}

  // where the weights of a part begin that belong to another member of the group
  int64_t weights_of(int64_t member, const Part<S>& part) const {
    const int64_t t = job.pattern.start[site + member] + part.position;
    return (job.pattern.block ? job.pattern.block[t] : t) * job.block_size + part.inside * job.a_k;
  }

  // calls compute(vector0, vector1) for blocks of the task's share of the batch
  template <class F>
  void for_each_block(int64_t task, const F& compute) const {
    const int64_t vectors = divide_up(job.batch, L), part = task % job.batch_parts;
    const int64_t begin = part_start(vectors, job.batch_parts, part), mine = part_start(vectors, job.batch_parts, part + 1) - begin;
    const int64_t blocks = divide_up(mine, row_vectors);
    for (int64_t i = 0; i < blocks; ++i) compute(begin + part_start(mine, blocks, i), begin + part_start(mine, blocks, i + 1));
  }

  // the parts of steps [k0, k0 + Steps) of the reduction over `all` steps from block `from` on
  int64_t list_parts(int64_t from, int64_t all, int64_t k0, Part<S>* out) const {
    const int64_t k1 = k0 + Steps < all ? k0 + Steps : all;
    int64_t count = 0;
    for (int64_t k = k0; k < k1; ++count) {
      const int64_t t = from + k / job.depth, inside = k % job.depth;
      const int64_t rest = job.depth - inside, length = rest < k1 - k ? rest : k1 - k;
      const int64_t block = job.pattern.block ? job.pattern.block[t] : t;
      out[count] = {t - from, inside, block * job.block_size + inside * job.a_k,
                    static_cast<const S*>(job.b) + job.pattern.source[t] * job.b_site + inside * job.b_channel, length};
      k += length;
    }
    return count;
  }

  // asks for the weights of the chunk that follows k1, in this site or in the one after it, in `pieces` pieces
  void foresee(Prefetch<Steps>& ahead, int64_t k1, int64_t pieces) const {
    // the weights of a group are small
    if (job.groups) return;
    Part<S> next[Steps];
    int64_t count = 0;
    if (k1 < steps) {
      count = list_parts(first, steps, k1, next);
    } else if (site + 1 < job.sites) {
      const int64_t from = job.pattern.start[site + 1];
      count = list_parts(from, (job.pattern.start[site + 2] - from) * job.depth, 0, next);
    }
    for (int64_t i = 0; i < count; ++i) {
      const S* from = static_cast<const S*>(job.values) + next[i].a + bands.row0 * job.a_row;
      const int64_t rows = bands.row1 - bands.row0, length = next[i].length;
      if (job.a_k == 1) {
        ahead.add(from, sizeof(S), rows, job.a_row, length);
      } else {
        ahead.add(from, sizeof(S), length, job.a_k, rows);
      }
    }
    ahead.spread(pieces);
  }

  // sums of vectors [vector0, vector1) of the task's rows, `pitch` apart, to c
  void write(const T* sums, int64_t pitch, int64_t vector0, int64_t vector1) const {
    S* const target = static_cast<S*>(job.c) + site * job.c_site;
    for (int64_t row = bands.row0; row < bands.row1; ++row, sums += pitch) {
      S* to = target + row * job.c_channel;
      if (job.batch < L) {
        narrow(to, sums, job.batch);
        continue;
      }
      for (int64_t v = vector0; v < vector1; ++v) {
        // the last vector overlaps its neighbour (see Tile)
        store_as(to + (v * L < job.batch - L ? v * L : job.batch - L), load(sums + (v - vector0) * L));
      }
    }
  }
};

}  // namespace EFCN_ISA
}  // namespace efcn
