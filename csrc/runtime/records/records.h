// Operations as bytes: what fastgan/engine/native/ writes, for one set of input shapes and any
// instruction set, and what a bundle holds (docs/bundle.md has the fields of each).
//
// Nothing is trusted: whatever the bytes, operations that are made of them stay within their tensors.
#pragma once

#include <memory>
#include <vector>

#include "../fields.h"
#include "../operation.h"
#include "../weights.h"

namespace fastgan {

struct Constant {
  const float* data;   // null where it is a weight that was packed before
  int64_t size;        // floats
  int64_t number = 0;  // as Product has them; 0 where its address says which it is
};

// What the places of operations are in.
struct Slots {
  int64_t arena;                 // floats
  std::vector<int64_t> tensors;  // of the caller's, from slot 1 on: floats of each
  std::vector<Constant> constants;

  // Slots from here on are constants.
  static constexpr int64_t kConstants = 1 << 20;

  int64_t size(const Place& place) const;
};

// Reads operations until the bytes end. bf16: whether products that sum over channels are in it where
// that is faster, also those recorded in fp32.
std::vector<std::shared_ptr<const Operation>> read_operations(Fields& fields, const Slots& slots,
                                                              Weights& weights, bool bf16 = false);

}  // namespace fastgan
