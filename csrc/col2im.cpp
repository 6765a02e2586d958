// See col2im.h. Output rows are independent, so threads share them out; within a pixel the loop over
// channels is what the compiler turns into vectors.
#include "col2im.h"

#include <algorithm>
#include <system_error>
#include <thread>
#include <vector>

#include "elements.h"

namespace fastgan {
namespace {

// Below this many products a thread costs more to start than it saves.
constexpr int64_t kProductsPerThread = 1 << 19;
constexpr int64_t kMostTaps = 64;  // that meet in one output pixel, handled in one go

// out[c] = activation(sum over taps of taps[t][c] + bias[c])
template <class T>
inline __attribute__((always_inline)) void pixel(const T* const* taps, int64_t count,
                                                 const float* bias, int64_t channels, Bend bend,
                                                 T* __restrict__ out) {
  if (count == 4) {  // k4 s2, the commonest: four loads and one store per vector
    const T *a = taps[0], *b = taps[1], *c = taps[2], *d = taps[3];
    for (int64_t i = 0; i < channels; ++i) {
      const float sum = ((load(a + i) + load(b + i)) + (load(c + i) + load(d + i))) + bias[i];
      store(out + i, bend(sum));
    }
    return;
  }
  for (int64_t i = 0; i < channels; ++i) {
    float sum = bias[i];
    for (int64_t t = 0; t < count; ++t) sum += load(taps[t] + i);
    store(out + i, bend(sum));
  }
}

template <class T>
inline __attribute__((always_inline)) void rows(const Col2im& job, const float* bias, int64_t first,
                                                int64_t last) {
  const Bend bend(job.activation, job.slope);
  const int64_t tap = job.channels, column = job.kernel_height * job.kernel_width * tap;
  const T* taps[kMostTaps];
  for (int64_t row = first; row < last; ++row) {
    const int64_t image = row / job.out_height, oy = row % job.out_height + job.pad_top;
    const T* columns =
        static_cast<const T*>(job.columns) + image * job.height * job.width * column;
    T* out = static_cast<T*>(job.out) + row * job.out_width * job.channels;
    for (int64_t x = 0; x < job.out_width; ++x, out += job.channels) {
      const int64_t ox = x + job.pad_left;
      int64_t count = 0;
      for (int64_t ky = oy % job.stride_height; ky < job.kernel_height; ky += job.stride_height) {
        const int64_t iy = (oy - ky) / job.stride_height;
        if (oy < ky || iy >= job.height) continue;
        for (int64_t kx = ox % job.stride_width; kx < job.kernel_width; kx += job.stride_width) {
          const int64_t ix = (ox - kx) / job.stride_width;
          if (ox < kx || ix >= job.width) continue;
          taps[count++] =
              columns + (iy * job.width + ix) * column + (ky * job.kernel_width + kx) * tap;
        }
      }
      pixel(taps, count, bias, job.channels, bend, out);
    }
  }
}

FASTGAN_CLONES void rows_float32(const Col2im& job, const float* bias, int64_t first,
                                 int64_t last) {
  rows<float>(job, bias, first, last);
}

FASTGAN_CLONES void rows_bfloat16(const Col2im& job, const float* bias, int64_t first,
                                  int64_t last) {
  rows<uint16_t>(job, bias, first, last);
}

}  // namespace

int64_t most_taps() { return kMostTaps; }

void col2im(const Col2im& job, int64_t threads) {
  const std::vector<float> zeros(job.bias == nullptr ? job.channels : 0, 0.0f);
  const float* bias = job.bias == nullptr ? zeros.data() : job.bias;
  const auto work = job.element == kFloat32 ? rows_float32 : rows_bfloat16;
  const int64_t total = job.images * job.out_height;
  const int64_t products = job.images * job.height * job.width * job.kernel_height *
                           job.kernel_width * job.channels;
  threads = std::max<int64_t>(1, std::min({threads, products / kProductsPerThread, total}));
  std::vector<std::thread> others;
  int64_t first = 0;
  try {
    for (; threads > 1; --threads) {
      const int64_t part = (total - first) / threads;
      others.emplace_back([&job, work, bias, first, part] { work(job, bias, first, first + part); });
      first += part;
    }
  } catch (const std::system_error&) {  // no more threads to be had: do the rest here
  }
  work(job, bias, first, total);
  for (std::thread& other : others) other.join();
}

}  // namespace fastgan
