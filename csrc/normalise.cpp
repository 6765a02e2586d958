// See normalise.h. Three stages: statistics of chunks of pixels, channel by channel; their merger;
// the application. Statistics are means and sums of squared deviations from them (Chan, Golub,
// LeVeque 1983), merged in a fixed order, so that the result does not depend on the threads. Means
// are above an image's first pixel, and so as exact as the deviations however far from zero both are.
#include "normalise.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "elements.h"
#include "workers.h"

namespace fastgan {
namespace {

// What one thread takes at a time: enough that taking it costs nothing beside.
constexpr int64_t kElementsPerPart = 1 << 16;
// Read twice for its mean and its deviations, so it is to stay in the nearest cache; and few enough
// pixels that float holds their sum.
constexpr int64_t kElementsPerBlock = 1 << 12, kPixelsPerBlock = 64;

// What the threads of one call share.
struct Shared {
  const Normalise& job;
  int64_t per_chunk, chunks;                // pixels; of an image
  std::vector<float> means{}, deviations{};  // [images, chunks, channels]
  std::vector<float> blocks{};               // [images, chunks, 2, channels]: room for a block's
  std::vector<double> sums{}, squares{};     // [images, groups]
  // [images, channels]: (x - centre) * scale + shift
  std::vector<float> centre{}, scale{}, shift{};
};

const float* row(const float* rows, bool is_shared, int64_t image, int64_t channels) {
  return rows == nullptr || is_shared ? rows : rows + image * channels;
}

template <class T>
inline __attribute__((always_inline)) void measure(Shared& shared, int64_t item) {
  const Normalise& job = shared.job;
  const int64_t channels = job.channels, image = item / shared.chunks;
  const int64_t first = item % shared.chunks * shared.per_chunk;
  const int64_t last = std::min(first + shared.per_chunk, job.pixels);
  const T* base = static_cast<const T*>(job.x) + image * job.pixels * channels;
  const int64_t most = std::max<int64_t>(1, std::min(kPixelsPerBlock, kElementsPerBlock / channels));
  float* __restrict__ mean = shared.means.data() + item * channels;
  float* __restrict__ deviation = shared.deviations.data() + item * channels;
  float* __restrict__ here = shared.blocks.data() + 2 * item * channels;
  float* __restrict__ apart = here + channels;
  for (int64_t start = first; start < last; start += most) {
    const int64_t count = std::min(most, last - start);
    const T* block = base + start * channels;
    std::fill(here, apart + channels, 0.0f);
    for (int64_t p = 0; p < count; ++p) {
      const T* pixel = block + p * channels;
      for (int64_t c = 0; c < channels; ++c) here[c] += load(pixel + c) - load(base + c);
    }
    const float whole = static_cast<float>(count);
    for (int64_t c = 0; c < channels; ++c) here[c] /= whole;
    for (int64_t p = 0; p < count; ++p) {
      const T* pixel = block + p * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const float d = load(pixel + c) - load(base + c) - here[c];
        apart[c] += d * d;
      }
    }
    const float before = static_cast<float>(start - first), share = whole / (before + whole);
    for (int64_t c = 0; c < channels; ++c) {
      const float delta = here[c] - mean[c];
      deviation[c] += apart[c] + delta * delta * (before * share);
      mean[c] += delta * share;
    }
  }
}

template <class T>
void merge(Shared& shared, int64_t image) {
  const Normalise& job = shared.job;
  const int64_t channels = job.channels, size = channels / job.groups;
  const T* base = static_cast<const T*>(job.x) + image * job.pixels * channels;
  const float* means = shared.means.data() + image * shared.chunks * channels;
  const float* deviations = shared.deviations.data() + image * shared.chunks * channels;
  double* sums = shared.sums.data() + image * job.groups;
  double* squares = shared.squares.data() + image * job.groups;
  const double total = static_cast<double>(job.pixels * size);
  const auto of_chunk = [&](int64_t chunk) {
    return static_cast<double>(std::min(shared.per_chunk, job.pixels - chunk * shared.per_chunk));
  };
  const auto mean = [&](int64_t chunk, int64_t c) {
    return static_cast<double>(load(base + c)) + means[chunk * channels + c];
  };
  for (int64_t chunk = 0; chunk < shared.chunks; ++chunk) {
    const double pixels = of_chunk(chunk);
    for (int64_t c = 0; c < channels; ++c) sums[c / size] += pixels * mean(chunk, c);
  }
  for (int64_t g = 0; g < job.groups; ++g) sums[g] /= total;  // now the mean of the group
  for (int64_t chunk = 0; chunk < shared.chunks; ++chunk) {
    const double pixels = of_chunk(chunk);
    for (int64_t c = 0; c < channels; ++c) {
      const double apart = mean(chunk, c) - sums[c / size];
      squares[c / size] += deviations[chunk * channels + c] + pixels * apart * apart;
    }
  }
  const float* gamma = row(job.gamma, job.gamma_is_shared, image, channels);
  const float* beta = row(job.beta, job.beta_is_shared, image, channels);
  for (int64_t c = 0; c < channels; ++c) {
    const double scale = (gamma == nullptr ? 1.0 : gamma[c]) /
                         std::sqrt(squares[c / size] / total + job.epsilon);
    const float centre = static_cast<float>(sums[c / size]);
    const int64_t at = image * channels + c;
    shared.centre[at] = centre;
    shared.scale[at] = static_cast<float>(scale);
    shared.shift[at] = static_cast<float>((centre - sums[c / size]) * scale +
                                          (beta == nullptr ? 0.0 : beta[c]));
  }
}

template <class T, bool kHasResidual>
inline __attribute__((always_inline)) void apply_rows(const Shared& shared, int64_t item) {
  const Normalise& job = shared.job;
  const int64_t channels = job.channels, image = item / shared.chunks;
  const int64_t first = item % shared.chunks * shared.per_chunk;
  const int64_t last = std::min(first + shared.per_chunk, job.pixels);
  const Bend bend(job.activation, job.slope);
  const float* centre = shared.centre.data() + image * channels;
  const float* scale = shared.scale.data() + image * channels;
  const float* shift = shared.shift.data() + image * channels;
  for (int64_t p = first; p < last; ++p) {
    const int64_t at = (image * job.pixels + p) * channels;
    const T* x = static_cast<const T*>(job.x) + at;
    const T* residual = kHasResidual ? static_cast<const T*>(job.residual) + at : nullptr;
    T* __restrict__ out = static_cast<T*>(job.out) + at;
    for (int64_t c = 0; c < channels; ++c) {
      float value = (load(x + c) - centre[c]) * scale[c] + shift[c];
      if (kHasResidual) value += load(residual + c);
      store(out + c, bend(value));
    }
  }
}

template <class T>
inline __attribute__((always_inline)) void apply(const Shared& shared, int64_t item) {
  if (shared.job.residual == nullptr) {
    apply_rows<T, false>(shared, item);
  } else {
    apply_rows<T, true>(shared, item);
  }
}

FASTGAN_CLONES void measure_float32(Shared& shared, int64_t item) { measure<float>(shared, item); }
FASTGAN_CLONES void measure_bfloat16(Shared& shared, int64_t item) {
  measure<uint16_t>(shared, item);
}
FASTGAN_CLONES void apply_float32(const Shared& shared, int64_t item) {
  apply<float>(shared, item);
}
FASTGAN_CLONES void apply_bfloat16(const Shared& shared, int64_t item) {
  apply<uint16_t>(shared, item);
}

void part(void* context, int64_t stage, int64_t item) {
  Shared& shared = *static_cast<Shared*>(context);
  const bool wide = shared.job.element == kFloat32;
  switch (stage) {
    case 0:
      return wide ? measure_float32(shared, item) : measure_bfloat16(shared, item);
    case 1:
      return wide ? merge<float>(shared, item) : merge<uint16_t>(shared, item);
    default:
      return wide ? apply_float32(shared, item) : apply_bfloat16(shared, item);
  }
}

}  // namespace

void normalise(const Normalise& job, int64_t threads) {
  const int64_t chunks = std::max<int64_t>(
      1, std::min(job.pixels, job.pixels * job.channels / kElementsPerPart));
  const int64_t per_chunk = (job.pixels + chunks - 1) / chunks;
  Shared shared{job, per_chunk, (job.pixels + per_chunk - 1) / per_chunk};
  const int64_t parts = job.images * shared.chunks;
  shared.means.resize(parts * job.channels);
  shared.deviations.resize(shared.means.size());
  shared.blocks.resize(2 * shared.means.size());
  shared.sums.resize(job.images * job.groups);
  shared.squares.resize(shared.sums.size());
  shared.centre.resize(job.images * job.channels);
  shared.scale.resize(shared.centre.size());
  shared.shift.resize(shared.centre.size());
  run_stages({parts, job.images, parts}, part, &shared, threads);
}

}  // namespace fastgan
