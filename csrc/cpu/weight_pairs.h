// bfloat16 grad-weight in pairs of images, added up in float32: outer products as in weight_outer.h, by the engines of product_pairs.h
#pragma once

#include "kernel_table.h"
#include "pair.h"
#include "sgd.h"
#include "tile.h"

namespace efcn {
namespace EFCN_ISA {

template <class Engine>
struct PairWeights {
  static constexpr int L = lanes<float>;
  static constexpr int64_t width = Engine::width * L;

  const WeightJob& job;
  // pairs of images, zeros up to a whole number of the engine's steps; panels of `width` channels
  const int64_t pairs, panels, gy_pitch;
  // scratch: x as pairs in panels [panel][pair][width], gradients [row][pitch], rows of gy as pairs
  Pair* across;
  Pair* gy;
  float* sums;

  explicit PairWeights(const WeightJob& j, void* memory)
      : job(j),
        pairs(divide_up(j.batch, Engine::steps) * Engine::steps / 2),
        panels(divide_up(j.ci, width)),
        // one line more, so that rows do not meet in the same sets of a cache
        gy_pitch(divide_up(pairs, L) * L + L),
        across(static_cast<Pair*>(memory)),
        gy(across + panels * divide_up(pairs, L) * L * width),
        sums(reinterpret_cast<float*>(gy + Engine::rows * gy_pitch)) {}

  static size_t scratch(const WeightJob& job) {
    const PairWeights w(job, nullptr);
    const int64_t numbers = w.panels * divide_up(w.pairs, L) * L * width + Engine::rows * (w.gy_pitch + w.panels * width);
    return static_cast<size_t>(numbers) * sizeof(Pair);
  }

  // images from 2 * pair on of a row, as pairs
  static Vec<float> load_images(const bf16* row, int64_t pair, int64_t batch) {
    const int64_t left = batch - 2 * pair;
    const __mmask32 mask = left >= 2 * L ? ~__mmask32{0} : left > 0 ? (__mmask32{1} << left) - 1 : 0;
    return (Vec<float>)_mm512_maskz_loadu_epi16(mask, row + (mask ? 2 * pair : 0));
  }

  void transpose_x(int64_t site) {
    const bf16* x = static_cast<const bf16*>(job.x) + site * job.x_site;
    const int64_t height = divide_up(pairs, L) * L;
    for (int64_t c = 0; c < panels * width; c += L) {
      Pair* to = across + c / width * height * width + c % width;
      for (int64_t p = 0; p < height; p += L) {
        Vec<float> square[L];
        for (int64_t i = 0; i < L; ++i) square[i] = c + i < job.ci ? load_images(x + (c + i) * job.x_channel, p, job.batch) : Vec<float>{};
        transpose<float>(square);
        for (int64_t i = 0; i < L; ++i) store_pairs(to + (p + i) * width, (Bits)square[i]);
      }
    }
  }

  void copy_gy(int64_t site, int64_t row, int64_t rows) {
    const bf16* from = static_cast<const bf16*>(job.gy) + site * job.gy_site + row * job.gy_channel;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t p = 0; p < pairs; p += L) store_pairs(gy + r * gy_pitch + p, (Bits)load_images(from + r * job.gy_channel, p, job.batch));
    }
  }

  void compute(int64_t task) {
    const int64_t site = task / job.row_parts, start = job.pattern.start[site], stop = job.pattern.start[site + 1];
    if (start == stop) return;
    const Bands bands(job.co, Engine::rows, job.row_parts, task % job.row_parts);
    const WeightSink<bf16> sink(job);
    const int64_t pitch = panels * width, height = divide_up(pairs, L) * L;
    transpose_x(site);
    for (int64_t b = start; b < stop; ++b) {
      for (int64_t row = bands.row0; row < bands.row1; row += Engine::rows) {
        const int64_t rows = bands.row1 - row < Engine::rows ? bands.row1 - row : Engine::rows;
        copy_gy(job.pattern.source[b], row, rows);
        for (int64_t i = 0; i < Engine::rows * pitch; i += L) store(sums + i, Vec<float>{});
        for (int64_t panel = 0; panel < panels; ++panel) {
          const int64_t left = divide_up(job.ci - panel * width, L);
          Engine::add(gy, gy_pitch, across + panel * height * width, width, sums + panel * width, pitch, static_cast<int>(rows),
                      static_cast<int>(left < Engine::width ? left : Engine::width), pairs);
        }
        for (int64_t r = 0; r < rows; ++r) put(sink, (job.pattern.block[b] * job.co + row + r) * job.ci, sums + r * pitch, job.ci);
      }
    }
  }
};

template <class Engine>
void pair_weight_task(const WeightJob& job, int64_t task, void* memory) {
  const typename Engine::State state;
  PairWeights<Engine>(job, memory).compute(task);
}

template <class Engine>
size_t pair_weight_scratch(const WeightJob& job) {
  return PairWeights<Engine>::scratch(job);
}

template <class Engine>
constexpr WeightKernel pair_weight = {pair_weight_task<Engine>, pair_weight_scratch<Engine>};

}  // namespace EFCN_ISA
}  // namespace efcn
