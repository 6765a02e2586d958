// Products as dense layers of csrc/runtime: which phases, patches and vectors suit an instruction
// set, and the weights in the order in which that uses them.
#pragma once

#include <stdint.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "geometry.h"
#include "winograd.h"
#include "../memory.h"

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

struct PackedPhase {
  const void* weights;  // as DensePhase of runtime/kernels/kernels.h has them
  int64_t rows, columns;
  int64_t out_y, out_x;
  std::vector<std::pair<int64_t, int64_t>> taps;
  Filtering filtering;
  const int8_t* signs;  // Winograd's: winograd.h's Sign, [blocks][taps][channels][lanes]; or null
  bool sparse;          // whether a lane lacks a tap or channel that others have: weights of -0
};

// A product packed for one instruction set.
struct Packing {
  int64_t in_height, in_width, in_channels, out_height, out_width, out_channels;
  int64_t vectors;  // to a block of lanes
  int64_t pack;     // elements to a lane, 1 of fp32, 2 of bf16
  int64_t in_step_y, in_step_x, out_step_y, out_step_x, patch_height, patch_width;
  std::vector<PackedPhase> phases;
  const float* bias = nullptr;          // by lanes
  std::shared_ptr<const Block> memory;  // of weights and bias
};

// Numbers and the like, by which something is found again.
class Key {
 public:
  template <class T>
  Key& add(const T& value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Key& add(const Key& key) {
    text_ += key.text_;
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// What products of the same weights have in common. Layers of images of another size are most often
// laid out alike, and weights that were packed so are not even read for them.
struct Known {
  std::map<std::string, std::weak_ptr<const Block>> blocks;  // that somebody has
  std::map<std::string, bool> exact;  // whether a tile of Winograd's is exact enough for weights
};

// Whether a product whose inputs are floats takes less time with those and its weights rounded to
// bf16, on a processor with instructions for that. Pairs of them take as long as floats, so half; but
// the inputs are to be rounded, an odd channel is a pair with nothing, and Winograd's filtering of
// floats may take larger tiles. The same for every instruction set, and for any number of images.
// The rest as for `pack`; of a product without its numbers, nothing where they are needed.
std::optional<bool> is_faster_in_bf16(const Product& product, int64_t most_minimal,
                                      int64_t most_bytes, const Key& numbers, Known& known);

// width: floats to a vector. pack: elements to a lane.
// most_minimal: the largest tile of it that may be taken (winograd.h). threads: that share the work.
// most_bytes: that new memory may take; beyond it std::bad_alloc is thrown.
// numbers: which those of the product are. known: of the products of these, and other, numbers; what
// is made is put there. Null for a product without its numbers, where they are needed.
std::unique_ptr<Packing> pack(const Product& product, int64_t width, int64_t pack,
                              int64_t most_minimal, int64_t threads, int64_t most_bytes,
                              const Key& numbers, Known& known);

// The most taps of a phase, whatever the instruction set.
int64_t most_taps(const Product& product);

// Vectors to a block where lanes are single columns of a matrix.
inline int64_t vectors_for(int64_t columns, int64_t width) { return columns > width ? 2 : 1; }

}  // namespace fastgan
