// What a layer computes, whichever way its outputs are made.
#pragma once

#include <stdint.h>

#include "axis.h"

namespace fastgan {

// A convolution, a transposed one, or a linear map, before its outputs fall into phases.
struct Product {
  Axis rows, columns;
  // Whether all outputs must be one patch, since each has its own bias: a linear map, which is a
  // transposed convolution of one pixel.
  bool linear = false;
  bool depthwise = false;  // whether each output is of the channel of its number alone
  int64_t channels = 1, outputs = 1;  // of an input pixel, and of an output pixel
  // The output pixels that each one of the axes' outputs makes: one but for a pixel shuffle.
  int64_t block_height = 1, block_width = 1;
  const float* weight = nullptr;
  int64_t strides[6] = {};  // of the weight's [ky, kx, channels, block height and width, outputs]
  const float* bias = nullptr;
  int64_t bias_strides[3] = {};  // of [block height and width, outputs]; linear: [height, width, outputs]
  // Other than 0: which numbers these are, wherever they lie. They may be elsewhere (null) where the
  // product is packed already (`Weights` of runtime/weights.h).
  int64_t weight_number = 0, bias_number = 0;
};

}  // namespace fastgan
