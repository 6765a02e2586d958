// Norms over space on a CPU (instance, group and layer norm of images, AdaIN), residual and
// activation in the same pass: what torch has for images that lie channels last takes sums of
// squares, which cancel where a channel's mean is far above its deviation.
#pragma once

#include <stdint.h>

#include "col2im.h"

namespace fastgan {

// out = activation((x - mean) / sqrt(variance + epsilon) * gamma + beta + residual), mean and
// variance of each image and group of channels; what is null is left out.
struct Normalise {
  const void* x;         // [images, pixels, channels]
  void* out;             // of the same shape
  const void* residual;  // of the same shape
  const float* gamma;    // [images or 1, channels]
  const float* beta;     // [images or 1, channels]
  bool gamma_is_shared, beta_is_shared;  // one row for all images
  Element element;                       // of x, out and residual
  Activation activation;
  float slope;  // of kLeakyRelu
  double epsilon;
  int64_t images, pixels, channels, groups;
};

void normalise(const Normalise& job, int64_t threads);

}  // namespace fastgan
