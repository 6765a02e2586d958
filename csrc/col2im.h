// The second half of a transposed convolution on a CPU: the first is one matrix product, of every
// input pixel with every tap; this adds up the products that meet in an output pixel.
#pragma once

#include <stdint.h>

namespace fastgan {

enum Element { kFloat32 = 0, kBFloat16 = 1 };
enum Activation { kNone = 0, kRelu = 1, kLeakyRelu = 2 };

struct Col2im {
  const void* columns;  // [images, height, width, kernel_height, kernel_width, channels]
  void* out;            // [images, out_height, out_width, channels]
  const float* bias;    // [channels], or null
  Element element;      // of columns and out; sums are in float
  Activation activation;
  float slope;  // of kLeakyRelu
  int64_t images, height, width, channels;
  int64_t kernel_height, kernel_width, stride_height, stride_width, pad_top, pad_left;
  int64_t out_height, out_width;
};

// How many taps may meet in one output pixel: ceil(kernel / stride), squared.
int64_t most_taps();

void col2im(const Col2im& job, int64_t threads);

}  // namespace fastgan
