// See modulate.h. Pixels are independent, so threads share them out; the loop over channels is what
// the compiler turns into vectors.
#include "modulate.h"

#include <algorithm>
#include <vector>

#include "elements.h"
#include "workers.h"

namespace fastgan {
namespace {

// What one thread takes at a time: enough that taking it costs nothing beside.
constexpr int64_t kElementsPerPart = 1 << 16;

template <class T>
inline __attribute__((always_inline)) void pixels(const Modulate& job, const float* ones,
                                                  const float* zeros, int64_t first,
                                                  int64_t last) {
  const Bend bend(job.activation, job.slope);
  const float* bias = job.bias == nullptr ? zeros : job.bias;
  for (int64_t at = first; at < last; ++at) {
    const int64_t image = at / job.pixels, pixel = at % job.pixels;
    const float* scale = job.scale == nullptr ? ones
                                              : job.scale + (job.scale_is_shared ? 0 : image) *
                                                                job.channels;
    const float noise =
        job.noise == nullptr ? 0.0f
                             : job.noise[(job.noise_is_shared ? 0 : image) * job.pixels + pixel];
    const T* x = static_cast<const T*>(job.x) + at * job.channels;
    T* out = static_cast<T*>(job.out) + at * job.channels;
    for (int64_t c = 0; c < job.channels; ++c) {
      const float value = load(x + c) * scale[c] + (noise + bias[c]);
      store(out + c, bend(value));
    }
  }
}

FASTGAN_CLONES void pixels_float32(const Modulate& job, const float* ones, const float* zeros,
                                   int64_t first, int64_t last) {
  pixels<float>(job, ones, zeros, first, last);
}

FASTGAN_CLONES void pixels_bfloat16(const Modulate& job, const float* ones, const float* zeros,
                                    int64_t first, int64_t last) {
  pixels<uint16_t>(job, ones, zeros, first, last);
}

// What the threads of one call share.
struct Shared {
  const Modulate& job;
  const float *ones, *zeros;
  int64_t per_part, total;  // pixels
};

void part(void* context, int64_t, int64_t item) {
  const Shared& shared = *static_cast<const Shared*>(context);
  const int64_t first = item * shared.per_part;
  const int64_t last = std::min(first + shared.per_part, shared.total);
  const auto work = shared.job.element == kFloat32 ? pixels_float32 : pixels_bfloat16;
  work(shared.job, shared.ones, shared.zeros, first, last);
}

}  // namespace

void modulate(const Modulate& job, int64_t threads) {
  const std::vector<float> ones(job.channels, 1.0f), zeros(job.channels, 0.0f);
  const int64_t total = job.images * job.pixels;
  const int64_t parts =
      std::max<int64_t>(1, std::min(total, total * job.channels / kElementsPerPart));
  Shared shared = {job, ones.data(), zeros.data(), (total + parts - 1) / parts, total};
  run_stages({(total + shared.per_part - 1) / shared.per_part}, part, &shared, threads);
}

}  // namespace fastgan
