// a warp on the chip: each thread has its own lane and does what is asked of "each". tests/support/cuda/emulated_warp.h is the same on the
// host
#pragma once

#include "numbers.h"

namespace efcn {

template <class OfLane>
class Warp {
 public:
  using Lane = OfLane;

  template <class Do>
  __device__ __forceinline__ void each(Do work) {
    work(lane_, static_cast<int>(threadIdx.x));
  }
  // uniform within the warp, so that the compiler knows it too
  __device__ __forceinline__ int index() const { return __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0); }
  __device__ __forceinline__ void sync() { __syncthreads(); }

  template <class T>
  __device__ __forceinline__ T read(const T* from) const {
    return *from;
  }
  template <class T>
  __device__ __forceinline__ void write(T* to, T number) const {
    *to = number;
  }

  template <class Predicate>
  __device__ __forceinline__ uint32_t ballot(Predicate predicate) {
    return __ballot_sync(~0u, predicate(static_cast<int>(threadIdx.x)));
  }

  // BYTES into shared memory, of which `valid` come from memory and the others are 0; they arrive by wait() and a barrier. Where none is
  // valid the address must be aligned, but may lie anywhere. commit() and barriers order copies, so they need not clobber memory: between
  // them the addresses of several are computed together
  template <int BYTES>
  __device__ __forceinline__ void copy(void* to, const void* from, int valid) {
    const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
    if constexpr (BYTES == 16) {
      // past L1: other warps of the multiprocessor want other tiles. What is there wholly or not at all is one instruction, a part takes
      // ten
      if (valid == 0 || valid == 16) {
        asm volatile("{ .reg .pred none; setp.eq.s32 none, %2, 0; cp.async.cg.shared.global [%0], [%1], 16, none; }" ::"r"(at), "l"(from),
                     "r"(valid));
      } else {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(valid));
      }
    } else if constexpr (BYTES == 8 || BYTES == 4) {
      if (valid == 0 || valid == BYTES) {
        asm volatile("{ .reg .pred none; setp.eq.s32 none, %2, 0; cp.async.ca.shared.global [%0], [%1], %3, none; }" ::"r"(at), "l"(from),
                     "r"(valid), "n"(BYTES));
      } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(at), "l"(from), "r"(valid), "n"(BYTES));
      }
    } else {
      static_assert(BYTES == 2, "what is not copied asynchronously");
      *static_cast<uint16_t*>(to) = valid ? *static_cast<const uint16_t*>(from) : uint16_t{0};
    }
  }
  __device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
  // until all but the last PENDING groups of this thread have arrived
  template <int PENDING>
  __device__ __forceinline__ void wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
  }

  // four matrices of 8 x 8 16-bit numbers: address(lane) is line lane % 8 of matrix lane / 8
  template <bool TRANSPOSED, class Address, class Target>
  __device__ __forceinline__ void load_matrices(Address address, Target target) {
    const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(address(static_cast<int>(threadIdx.x) % 32)));
    uint32_t (&r)[4] = target(lane_);
    if constexpr (TRANSPOSED) {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                   : "r"(at)
                   : "memory");
    } else {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                   : "r"(at)
                   : "memory");
    }
  }

  // sums += a @ b; T: how the operands are stored (float: rounded to TF32)
  template <class T, class Sums, class Left, class Right>
  __device__ __forceinline__ void multiply(Sums sums, Left left, Right right) {
    float (&d)[4] = sums(lane_);
    const uint32_t (&a)[4] = left(lane_);
    const uint32_t* b = right(lane_);
    if constexpr (sizeof(T) == 4) {
      asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                   : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else if constexpr (is_bf16(T{})) {
      asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                   : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else {
      asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                   : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
  }

 private:
  static constexpr __device__ bool is_bf16(Bf16) { return true; }
  static constexpr __device__ bool is_bf16(F16) { return false; }

  Lane lane_;
};

}  // namespace efcn
