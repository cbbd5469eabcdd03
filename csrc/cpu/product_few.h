// the same product for a few images, which would leave the lanes of product.h empty: lanes run along the weights as they lie in memory, so
// that each is loaded once. float32 and float64, N at most most_few
#pragma once

#include "product_site.h"
#include "tile.h"

namespace efcn {
namespace EFCN_ISA {

constexpr int64_t few_steps = 512;

template <class T>
struct FewProduct : ProductSite<T, few_steps, tile_rows> {
  using Site = ProductSite<T, few_steps, tile_rows>;
  using Site::bands;
  using Site::job;
  using Site::L;

  // scratch: b as [image][step] of a chunk, c as [image][row]
  T* across;
  T* sums;
  // rows from row0: those of the task, and where they are fewer than lanes also rows before them, which are computed and not kept
  int64_t rows, row0;
  Part<T> parts[few_steps];
  int64_t count = 0;

  FewProduct(const ProductJob& j, int64_t task, void* memory)
      : Site(j, task),
        across(static_cast<T*>(memory)),
        sums(across + few_steps * j.batch),
        rows(bands.row1 - bands.row0),
        row0(bands.row0) {
    if (j.a_k == 1 || rows >= L) return;
    rows = L;
    if (row0 > j.rows - L) row0 = j.rows - L;
  }

  static int64_t scratch_size(const ProductJob& job) {
    const int64_t most = Site::task_rows(job);
    return job.batch * (few_steps + (most < L ? L : most));
  }

  // weights of one step lie side by side (backward_input): lanes over rows, b is broadcast
  void along_rows(bool first_chunk) {
    Segment<T> segments[few_steps];
    const T zeros[most_few] = {};
    Tile<T> tile;
    tile.segments = segments;
    tile.segment_count = count;
    tile.a_row = 1;
    tile.a_k = job.b_channel;
    tile.b_k = job.a_k;
    tile.c_row = rows;
    tile.init = first_chunk ? zeros : nullptr;
    tile.high = L;
    const Bands images(job.batch, tile_rows, 1, 0);
    for (int64_t band = 0; band < images.count; ++band) {
      const int64_t n = images.start(band);
      const int height = static_cast<int>(images.start(band + 1) - n);
      const int64_t vectors = divide_up(rows, L), panels = divide_up(vectors, tile_vectors(height));
      for (int64_t p = 0; p < panels; ++p) {
        // the longest panels last: a last one of a single vector would move back over sums that the one before has just added to
        const int64_t from = vectors - part_start(vectors, panels, panels - p);
        const int64_t width = vectors - part_start(vectors, panels, panels - p - 1) - from;
        const Span<T> span(from, width, rows);
        for (int64_t i = 0; i < count; ++i) {
          segments[i] = {parts[i].b + n, static_cast<const T*>(job.values) + parts[i].a + row0 + span.offset, parts[i].length};
        }
        tile.b_last = tile.c_last = span.last;
        tile.c = sums + n * rows + span.offset;
        choose_tile<T>(height, static_cast<int>(width))(tile);
      }
    }
  }

  // weights of one row lie side by side (forward): lanes over steps, summed up at the end of the chunk. Out of line wherever it is
  // compiled, not by how much else the file holds
  __attribute__((noinline)) void along_steps(bool first_chunk) {
    // blocks are whole vectors deep
    T* to = across;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < parts[i].length; j += L, to += L) {
        const T* from = parts[i].b + j * job.b_channel;
        // of several images those whose steps lie side by side overlap: sliding windows
        if (job.b_channel == 1 && job.batch == 1) {
          store(to, load(from));
          continue;
        }
        for (int64_t n = 0; n < job.batch; n += L) {
          const int64_t images = job.batch - n < L ? job.batch - n : L;
          Vec<T> square[L];
          for (int64_t l = 0; l < L; ++l) square[l] = load_some(from + l * job.b_channel + n, images);
          transpose<T>(square);
          for (int64_t m = 0; m < images; ++m) store(to + (n + m) * few_steps, square[m]);
        }
      }
    }
    if (first_chunk) {
      for (int64_t i = 0; i < job.batch * rows; ++i) sums[i] = 0;
    }
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4) add_rows<4>(row);
    for (; row < rows; ++row) add_rows<1>(row);
  }

  template <int R>
  void add_rows(int64_t row) {
    int64_t n = 0;
    for (; n + 4 <= job.batch; n += 4) add_dots<R, 4>(row, n);
    if (n + 2 <= job.batch) {
      add_dots<R, 2>(row, n);
      n += 2;
    }
    if (n < job.batch) add_dots<R, 1>(row, n);
  }

  template <int R, int C>
  void add_dots(int64_t row, int64_t image) {
    constexpr int padded_count = (R * C + L - 1) / L * L;
    Vec<T> acc[padded_count] = {};
    const T* b = across + image * few_steps;
    for (int64_t i = 0; i < count; b += parts[i++].length) {
      const T* a = static_cast<const T*>(job.values) + parts[i].a + (row0 + row) * job.a_row;
      for (int64_t k = 0; k < parts[i].length; k += L) {
        Vec<T> x[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) x[c] = load(b + c * few_steps + k);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const Vec<T> w = load(a + r * job.a_row + k);
          __builtin_prefetch(a + (R + r) * job.a_row + k);
#pragma GCC unroll 4
          for (int c = 0; c < C; ++c) acc[r * C + c] += w * x[c];
        }
      }
    }
    T out[padded_count];
#pragma GCC unroll 16
    for (int i = 0; i < padded_count; i += L) store(out + i, fold<T>(acc + i));
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) sums[(image + c) * rows + row + r] += out[r * C + c];
    }
  }

  void compute() {
    int64_t k0 = 0;
    do {
      count = Site::list_parts(Site::first, Site::steps, k0, parts);
      if (job.a_k == 1) {
        along_steps(k0 == 0);
      } else {
        along_rows(k0 == 0);
      }
      k0 += few_steps;
    } while (k0 < Site::steps);
    T* const target = static_cast<T*>(job.c) + Site::site * job.c_site;
    const T* const bias = job.bias ? static_cast<const T*>(job.bias) + Site::site * job.rows : nullptr;
    for (int64_t row = bands.row0; row < bands.row1; ++row) {
      for (int64_t n = 0; n < job.batch; ++n) target[row * job.c_channel + n] = sums[n * rows + row - row0] + (bias ? bias[row] : 0);
    }
  }
};

template <class T>
void few_product_task(const ProductJob& job, int64_t task, void* memory) {
  FewProduct<T>(job, task, memory).compute();
}

template <class T>
size_t few_product_scratch(const ProductJob& job) {
  return static_cast<size_t>(FewProduct<T>::scratch_size(job)) * sizeof(T);
}

}  // namespace EFCN_ISA
}  // namespace efcn
