#include <algorithm>
#include <cmath>
#include <numeric>

#include "operations.h"

namespace fastgan {
namespace {

constexpr int64_t kElementsPerPart = 1 << 16;
// Where there are few pixels, statistics of all channels are to be one thread's work.
constexpr int64_t kElementsPerItem = 1 << 14;

// Channels that fill vectors, of any instruction set; so many have no need to.
constexpr int64_t kLanes = 16, kManyChannels = 64;

}  // namespace

Norm::Norm(NormShape shape, Place in, Place out, Place gamma, Place beta, Place residual)
    : shape_(shape), in_(in), out_(out), gamma_(gamma), beta_(beta), residual_(residual) {
  widen();
  const int64_t pixels = shape_.pixels_high * shape_.pixels_wide;
  const int64_t wanted =
      std::clamp<int64_t>(pixels * shape_.in.channels / kElementsPerPart, 1, pixels);
  per_chunk_ = divide_up(pixels, wanted);
  chunks_ = divide_up(pixels, per_chunk_);
}

// Has pixels of few channels, all side by side, be wider ones, that vectors are full.
void Norm::widen() {
  const int64_t channels = shape_.in.channels, pixels = shape_.pixels_high * shape_.pixels_wide;
  const int64_t beside = kLanes / std::gcd(channels, kLanes);
  Epilogue& e = shape_.epilogue;
  const auto dense = [&](int64_t row, int64_t pixel) {
    return pixel == channels && (shape_.pixels_high == 1 || row == shape_.pixels_wide * channels);
  };
  if (channels >= kManyChannels || pixels % beside != 0 || e.slopes != nullptr ||
      !dense(shape_.in.row, shape_.in.pixel) || !dense(shape_.out.row, shape_.out.pixel) ||
      (residual_.given() &&
       (e.residual_channel != 1 || !dense(e.residual_row, e.residual_pixel)))) {
    return;
  }
  beside_ = beside;
  shape_.pixels_high = 1, shape_.pixels_wide = pixels / beside;
  for (Grid* grid : {&shape_.in, &shape_.out}) {
    grid->height = 1, grid->width = shape_.pixels_wide;
    grid->pixel = grid->channels = channels * beside;
    grid->row = grid->width * grid->pixel;
  }
  e.residual_pixel = channels * beside;
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
  const int64_t wide = shape_.in.channels, channels = wide / beside_;
  const int64_t size = channels / shape_.groups;
  const int64_t pixels = shape_.pixels_high * shape_.pixels_wide;
  const float* base = memory.at(in_) + n * shape_.in.image;
  const float* gamma = memory.at(gamma_);
  const float* beta = memory.at(beta_);
  float* centre = image(memory, n);
  const double total = static_cast<double>(pixels * beside_ * size);
  const auto of_chunk = [&](int64_t k) {
    return static_cast<double>(std::min(per_chunk_, pixels - k * per_chunk_));
  };
  for (int64_t g = 0; g < shape_.groups; ++g) {
    // The channels of a group, in each of the pixels that are one.
    const auto each = [&](const auto& work) {
      for (int64_t first = g * size; first < wide; first += channels) {
        for (int64_t c = first; c < first + size; ++c) work(c);
      }
    };
    double mean = 0, squares = 0;
    for (int64_t k = 0; k < chunks_ && shape_.centre; ++k) {
      const float* means = chunk(memory, n * chunks_ + k);
      each([&](int64_t c) { mean += of_chunk(k) * (static_cast<double>(base[c]) + means[c]); });
    }
    mean /= total;
    for (int64_t k = 0; k < chunks_; ++k) {
      const float *means = chunk(memory, n * chunks_ + k), *deviations = means + wide;
      each([&](int64_t c) {
        const double apart = static_cast<double>(base[c]) + means[c] - mean;
        squares += deviations[c] + of_chunk(k) * apart * apart;
      });
    }
    const double inverse = 1 / std::sqrt(squares / total + shape_.epsilon);
    each([&](int64_t c) {
      const int64_t own = c % channels;
      const double scale =
          inverse * (gamma == nullptr ? 1.0 : gamma[n * shape_.gamma_image + own]);
      const float at = static_cast<float>(mean);
      centre[c] = at;
      centre[wide + c] = static_cast<float>(scale);
      centre[2 * wide + c] = static_cast<float>(
          (at - mean) * scale + (beta == nullptr ? 0.0 : beta[n * shape_.beta_image + own]));
    });
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
