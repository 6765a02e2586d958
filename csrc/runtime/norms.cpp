#include <algorithm>
#include <cmath>

#include "operations.h"

namespace fastgan {
namespace {

constexpr int64_t kElementsPerPart = 1 << 16;
// Where there are few pixels, statistics of all channels are to be one thread's work.
constexpr int64_t kElementsPerItem = 1 << 14;

}  // namespace

Norm::Norm(NormShape shape, Place in, Place out, Place gamma, Place beta, Place residual)
    : shape_(shape), in_(in), out_(out), gamma_(gamma), beta_(beta), residual_(residual) {
  const int64_t pixels = shape_.pixels_high * shape_.pixels_wide;
  const int64_t wanted =
      std::clamp<int64_t>(pixels * shape_.in.channels / kElementsPerPart, 1, pixels);
  per_chunk_ = divide_up(pixels, wanted);
  chunks_ = divide_up(pixels, per_chunk_);
}

int64_t Norm::items(int64_t stage) const {
  const int64_t pixels = shape_.pixels_high * shape_.pixels_wide;
  const bool small = shape_.images * pixels * shape_.in.channels <= kElementsPerItem;
  if (small) return 1;
  return stage == 1 ? shape_.images : shape_.images * chunks_;
}

int64_t Norm::scratch() const {
  return shape_.images * (chunks_ * 4 + 3) * shape_.in.channels;
}

float* Norm::chunk(const Memory& memory, int64_t item) const {
  return memory.scratch + item * 4 * shape_.in.channels;
}

float* Norm::image(const Memory& memory, int64_t image) const {
  return memory.scratch + (shape_.images * chunks_ * 4 + image * 3) * shape_.in.channels;
}

void Norm::run(const Memory& memory, int64_t stage, int64_t item) const {
  const int64_t all = stage == 1 ? shape_.images : shape_.images * chunks_;
  const bool small = items(stage) == 1;
  const int64_t channels = shape_.in.channels, pixels = shape_.pixels_high * shape_.pixels_wide;
  for (int64_t i = small ? 0 : item; i < (small ? all : item + 1); ++i) {
    if (stage == 1) {
      merge(memory, i);
      continue;
    }
    const int64_t first = i % chunks_ * per_chunk_, n = i / chunks_;
    float *statistics = chunk(memory, i), *applied = image(memory, n);
    const NormPart part = {&shape_,
                           memory.at(in_),
                           memory.at(out_),
                           memory.at(residual_),
                           n,
                           first,
                           std::min(pixels, first + per_chunk_),
                           statistics,
                           statistics + channels,
                           statistics + 2 * channels,
                           applied,
                           applied + channels,
                           applied + 2 * channels};
    if (stage == 0) {
      kernels().measure(part);
    } else {
      kernels().normalise(part);
    }
  }
}

// Means and sums of squared deviations, as in Chan, Golub, LeVeque (1983), in a fixed order.
void Norm::merge(const Memory& memory, int64_t n) const {
  const int64_t channels = shape_.in.channels, size = channels / shape_.groups;
  const int64_t pixels = shape_.pixels_high * shape_.pixels_wide;
  const float* base = memory.at(in_) + n * shape_.in.image;
  const float* gamma = memory.at(gamma_);
  const float* beta = memory.at(beta_);
  float* centre = image(memory, n);
  const double total = static_cast<double>(pixels * size);
  const auto of_chunk = [&](int64_t k) {
    return static_cast<double>(std::min(per_chunk_, pixels - k * per_chunk_));
  };
  for (int64_t g = 0; g < shape_.groups; ++g) {
    double mean = 0, squares = 0;
    for (int64_t k = 0; k < chunks_ && shape_.centre; ++k) {
      const float* means = chunk(memory, n * chunks_ + k);
      for (int64_t c = g * size; c < (g + 1) * size; ++c) {
        mean += of_chunk(k) * (static_cast<double>(base[c]) + means[c]);
      }
    }
    mean /= total;
    for (int64_t k = 0; k < chunks_; ++k) {
      const float *means = chunk(memory, n * chunks_ + k), *deviations = means + channels;
      for (int64_t c = g * size; c < (g + 1) * size; ++c) {
        const double apart = static_cast<double>(base[c]) + means[c] - mean;
        squares += deviations[c] + of_chunk(k) * apart * apart;
      }
    }
    const double inverse = 1 / std::sqrt(squares / total + shape_.epsilon);
    for (int64_t c = g * size; c < (g + 1) * size; ++c) {
      const double scale =
          inverse * (gamma == nullptr ? 1.0 : gamma[n * shape_.gamma_image + c]);
      const float at = static_cast<float>(mean);
      centre[c] = at;
      centre[channels + c] = static_cast<float>(scale);
      centre[2 * channels + c] = static_cast<float>(
          (at - mean) * scale + (beta == nullptr ? 0.0 : beta[n * shape_.beta_image + c]));
    }
  }
}

Rows::Rows(RowsShape shape, Place in, Place out, Place gamma, Place beta, Place residual)
    : shape_(shape), in_(in), out_(out), gamma_(gamma), beta_(beta), residual_(residual) {
  each_ = std::max<int64_t>(1, kElementsPerItem / shape_.channels);
}

void Rows::run(const Memory& memory, int64_t, int64_t item) const {
  kernels().rows_kernel({&shape_, memory.at(in_), memory.at(out_), memory.at(gamma_),
                         memory.at(beta_), memory.at(residual_), item * each_,
                         std::min(shape_.count, (item + 1) * each_)});
}

}  // namespace fastgan
