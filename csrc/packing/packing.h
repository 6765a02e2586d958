// Products as dense layers of csrc/runtime: weights in the order in which an instruction set uses
// them.
#pragma once

#include <stdint.h>

#include <memory>
#include <utility>
#include <vector>

#include "../memory.h"
#include "known.h"
#include "product.h"
#include "winograd.h"

namespace fastgan {

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

// In the layout and the forms that suit it. width: floats to a vector. pack: elements to a lane.
// most_minimal: the largest tile that may be taken (winograd.h). threads: that share the work.
// most_bytes: that new memory may take; beyond it std::bad_alloc is thrown.
// numbers: which those of the product are. known: of the products of these, and other, numbers;
// what is made is put there. Null for a product without its numbers, where they are needed.
std::unique_ptr<Packing> pack(const Product& product, int64_t width, int64_t pack,
                              int64_t most_minimal, int64_t threads, int64_t most_bytes,
                              const Key& numbers, Known& known);

}  // namespace fastgan
