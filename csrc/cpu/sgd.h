// where the gradients of weights go: to memory, or by a step of SGD into the weights at once, so that they never exist as a whole
#pragma once

#include "convert.h"

namespace efcn {
namespace EFCN_ISA {

template <class S>
struct WeightSink {
  using T = Compute<S>;

  S* to;
  // whether `to` holds weights to update; if not, it receives their gradients and the rest is not used
  bool updates;
  S* buffer;
  const bool* mask;
  T lr, momentum, weight_decay;
  bool nesterov;

  explicit WeightSink(const WeightJob& job) : to(static_cast<S*>(job.gvalues)), updates(job.sgd != nullptr) {
    const SgdJob sgd = updates ? *job.sgd : SgdJob{};
    buffer = static_cast<S*>(sgd.momentum_buffer);
    mask = sgd.mask;
    lr = static_cast<T>(sgd.lr);
    momentum = static_cast<T>(sgd.momentum);
    weight_decay = static_cast<T>(sgd.weight_decay);
    nesterov = sgd.nesterov;
  }
};

// one value (V is T) or a vector of them
template <class V, class S>
EFCN_INLINE V get(const S* p) {
  if constexpr (sizeof(V) > sizeof(Compute<S>)) {
    return load_as(p);
  } else if constexpr (sizeof(V) == sizeof(S)) {
    return *p;
  } else {
    V v;
    widen(&v, p, 1);
    return v;
  }
}

template <class V, class S>
EFCN_INLINE void set(S* p, V v) {
  if constexpr (sizeof(V) > sizeof(Compute<S>)) {
    store_as(p, v);
  } else if constexpr (sizeof(V) == sizeof(S)) {
    *p = v;
  } else {
    narrow(p, &v, 1);
  }
}

// a product, rounded before it is added to anything: in one multiply-add it would have other bits than on an instruction set without, and
// than in ops/sgd.py
template <class V>
EFCN_INLINE V rounded(V v) {
#if defined(__x86_64__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#else
  asm("" : "+m"(v));
#endif
  return v;
}

// the weights from number `at` on by their gradients, one or a vector: the operations of ops/sgd.py in the same order
template <class V, class S>
EFCN_INLINE void update(const WeightSink<S>& sink, int64_t at, V g) {
  using T = Compute<S>;
  constexpr int count = sizeof(V) / sizeof(T);
  S stored[count];
  set(stored, g);
  g = get<V>(stored);
  if (sink.mask) {
    T kept[count];
    for (int i = 0; i < count; ++i) kept[i] = sink.mask[at + i];
    g *= get<V>(kept);
  }
  V w = get<V>(sink.to + at);
  if (sink.weight_decay != 0) g += rounded(w * sink.weight_decay);
  if (sink.buffer) {
    const V m = rounded(get<V>(sink.buffer + at) * sink.momentum) + g;
    set(sink.buffer + at, m);
    g = sink.nesterov ? g + rounded(m * sink.momentum) : m;
  }
  w -= rounded(g * sink.lr);
  set(sink.to + at, w);
}

// takes the gradients of `count` weights from number `at` on
template <class S>
EFCN_INLINE void put(const WeightSink<S>& sink, int64_t at, const Compute<S>* gradient, int64_t count) {
  using T = Compute<S>;
  if (!sink.updates) return narrow(sink.to + at, gradient, count);
  int64_t i = 0;
  for (; i + lanes<T> <= count; i += lanes<T>) update(sink, at + i, load(gradient + i));
  for (; i < count; ++i) update(sink, at + i, gradient[i]);
}

}  // namespace EFCN_ISA
}  // namespace efcn
