// The CUDA sampler, a shared library with a C interface: one thread makes one block of four.
#include <cuda_runtime.h>

#include "philox.h"

namespace fastgan {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kMaxGrid = 1u << 20;  // the kernels stride over what lies beyond
constexpr unsigned kNormLanes = 16;      // the partial sums that the specification asks for

// out [n, size]
template <int K>
__global__ void __launch_bounds__(kThreads)
    fill_kernel(float* out, uint64_t n, uint64_t size, uint64_t seed, uint64_t start,
                uint32_t stream, Parameters parameters) {
  const uint64_t per_sample = size / 4 + (size % 4 != 0);
  const uint64_t stride = static_cast<uint64_t>(gridDim.x) * kThreads;
  const bool aligned = size % 4 == 0 && reinterpret_cast<uintptr_t>(out) % sizeof(float4) == 0;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n * per_sample;
       i += stride) {
    const uint64_t row = i / per_sample, block = i % per_sample;
    float z[4];
    draw_block<K>(seed, start + row, static_cast<uint32_t>(block), stream, parameters, z);
    float* place = out + row * size + 4 * block;
    if (aligned) {
      *reinterpret_cast<float4*>(place) = make_float4(z[0], z[1], z[2], z[3]);
    } else {
      for (uint64_t j = 0; j < 4 && 4 * block + j < size; ++j) place[j] = z[j];
    }
  }
}

// Divides each row by its norm; 16 neighbouring threads share a row. rows [n, size]
__global__ void __launch_bounds__(kThreads)
    normalise_kernel(float* rows, uint64_t n, uint64_t size) {
  const unsigned lane = threadIdx.x % kNormLanes;
  const uint64_t stride = static_cast<uint64_t>(gridDim.x) * (kThreads / kNormLanes);
  const uint64_t first = static_cast<uint64_t>(blockIdx.x) * (kThreads / kNormLanes);
  for (uint64_t base = first; base < n; base += stride) {  // the same for all threads of a block
    const uint64_t row = base + threadIdx.x / kNormLanes;
    float* values = rows + row * size;
    float sum = 0.0f;
    if (row < n) {
      for (uint64_t j = lane; j < size; j += kNormLanes) sum += values[j] * values[j];
    }
    for (unsigned half = kNormLanes / 2; half > 0; half /= 2) {
      sum += __shfl_xor_sync(0xFFFFFFFFu, sum, half);
    }
    const float norm = Scalar::square_root(sum);
    if (row < n) {
      for (uint64_t j = lane; j < size; j += kNormLanes) values[j] = __fdiv_rn(values[j], norm);
    }
  }
}

unsigned grid_for(uint64_t threads) {
  const uint64_t blocks = (threads + kThreads - 1) / kThreads;
  return blocks < kMaxGrid ? static_cast<unsigned>(blocks) : kMaxGrid;
}

}  // namespace
}  // namespace fastgan

// Queues the samples start .. start + n - 1 on the CUDA stream: out, device memory of device
// `device`, is [n, size] float (uint32 words for kBits). Returns a cudaError_t, 0 for success.
extern "C" __attribute__((visibility("default"))) int fastgan_cuda_sample(
    int kind, float* out, uint64_t n, uint64_t size, uint64_t seed, uint64_t start, uint32_t stream,
    float offset, float scale, float limit, int device, void* cuda_stream) {
  using namespace fastgan;
  if (n == 0 || size == 0) return cudaSuccess;
  int before = 0;
  cudaError_t status = cudaGetDevice(&before);
  if (status == cudaSuccess && before != device) status = cudaSetDevice(device);
  if (status != cudaSuccess) return status;
  const Parameters parameters = {offset, scale, limit};
  const unsigned grid = grid_for(n * (size / 4 + (size % 4 != 0)));
  const cudaStream_t queue = static_cast<cudaStream_t>(cuda_stream);
  switch (kind) {
    case kBits:
      fill_kernel<kBits><<<grid, kThreads, 0, queue>>>(out, n, size, seed, start, stream, parameters);
      break;
    case kUniform:
      fill_kernel<kUniform>
          <<<grid, kThreads, 0, queue>>>(out, n, size, seed, start, stream, parameters);
      break;
    case kTruncated:
      fill_kernel<kTruncated>
          <<<grid, kThreads, 0, queue>>>(out, n, size, seed, start, stream, parameters);
      break;
    case kNormal:
    case kHypersphere:
      fill_kernel<kNormal>
          <<<grid, kThreads, 0, queue>>>(out, n, size, seed, start, stream, parameters);
      break;
    default:
      status = cudaErrorInvalidValue;
  }
  if (kind == kHypersphere) {
    normalise_kernel<<<grid_for(n * kNormLanes), kThreads, 0, queue>>>(out, n, size);
  }
  if (status == cudaSuccess) status = cudaGetLastError();
  if (before != device) cudaSetDevice(before);
  return status;
}

// What a status of fastgan_cuda_sample means, in words.
extern "C" __attribute__((visibility("default"))) const char* fastgan_cuda_message(int status) {
  return cudaGetErrorString(static_cast<cudaError_t>(status));
}
