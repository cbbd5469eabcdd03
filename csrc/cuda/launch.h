// a body as a kernel, and its launch
#pragma once

#include <cuda_runtime.h>

#include <cstdio>

#include "choose.h"
#include "warp.h"

namespace efcn {

template <class Body, class C, class Job>
__global__ void __launch_bounds__(C::threads, 1) run_program(const Job job) {
  extern __shared__ __align__(16) char shared[];
  Warp<typename Body::Lane> warp;
  Body::run(warp, job, blockIdx.x, shared);
}

// null, or what is wrong
template <class C, class Job>
cudaError_t launch(const Job& plain, cudaStream_t stream) {
  const Job job = prepared<C>(plain);
  using Body = decltype(body_of<C>(job));
  const int64_t programs = Body::programs(job), shared = Body::shared_bytes(job);
  if (programs > 0x7fffffff) return cudaErrorInvalidConfiguration;
  const auto kernel = run_program<Body, C, Job>;
  // what every kernel may have without asking
  if (shared > 48 << 10) {
    const cudaError_t granted = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (granted != cudaSuccess) return granted;
  }
  kernel<<<static_cast<unsigned>(programs), C::threads, static_cast<size_t>(shared), stream>>>(job);
  return cudaGetLastError();
}

template <class Kernels, class Job>
const char* launch_best(const Job& job, Math math, Path path, void* stream) {
  static thread_local char message[256];
  const int chosen = choose<Kernels>(job, math, path);
  if (chosen < 0) return "no compiled kernel takes this dtype on the path that was asked for";
  cudaError_t error = cudaSuccess;
  int number = 0;
  Kernels::each([&](auto of) {
    if (number++ == chosen) error = launch<typename decltype(of)::type>(job, static_cast<cudaStream_t>(stream));
  });
  if (error == cudaSuccess) return nullptr;
  snprintf(message, sizeof(message), "kernel %d of %d: %s", chosen, Kernels::size, cudaGetErrorString(error));
  return message;
}

}  // namespace efcn
