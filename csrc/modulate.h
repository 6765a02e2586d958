// Scales of every sample's channels, noise, bias and activation in one pass over images on a CPU:
// what a library leaves to do around a modulated convolution.
#pragma once

#include <stdint.h>

#include "col2im.h"

namespace fastgan {

// out = activation(x * scale + noise + bias); what is null is left out.
struct Modulate {
  const void* x;       // [images, pixels, channels]
  void* out;           // of the same shape; may be x
  const float* scale;  // [images or 1, channels]
  const float* noise;  // [images or 1, pixels]
  const float* bias;   // [channels]
  bool scale_is_shared, noise_is_shared;  // one row for all images
  Element element;                        // of x and out
  Activation activation;
  float slope;  // of kLeakyRelu
  int64_t images, pixels, channels;
};

void modulate(const Modulate& job, int64_t threads);

}  // namespace fastgan
