// Operations as bytes: what fastgan/engine/native/ writes, for one set of input shapes and any
// instruction set, and what a bundle holds (docs/bundle.md has the fields of each).
//
// Nothing is trusted: whatever the bytes, operations that are made of them stay within their tensors.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../memory.h"
#include "../packing/packing.h"
#include "fields.h"
#include "operation.h"

namespace fastgan {

struct Constant {
  const float* data;
  int64_t size;  // floats
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

// Weights in the order in which this processor uses them: each once, for all programs of a model.
class Weights {
 public:
  // threads: that pack, the calling one included. most_bytes: that all of them may take; beyond it
  // std::bad_alloc is thrown.
  explicit Weights(int64_t threads, int64_t most_bytes = INT64_MAX)
      : threads_(threads), left_(most_bytes) {}

  void share_out(int64_t threads) { threads_ = threads; }

  bool is_faster_in_bf16(const Product& product, int64_t most_minimal);  // see packing.h
  std::shared_ptr<const Packing> packed(const Product& product, int64_t width, int64_t pack,
                                        int64_t most_minimal);
  // A matrix [rows][columns] as [columns][rows].
  std::shared_ptr<const Block> transposed(const float* from, int64_t rows, int64_t columns);
  // A recurrent layer's matrices [gates][hidden][hidden] as RecurrentShape has them.
  std::shared_ptr<const Block> recurrence(const float* from, int64_t gates, int64_t hidden,
                                          int64_t lanes);

 private:
  void take(int64_t bytes);
  // What `fill` makes in so many floats, once for each key.
  template <class Fill>
  std::shared_ptr<const Block> block(const std::vector<int64_t>& key, int64_t floats,
                                     const Fill& fill);

  std::atomic<int64_t> threads_;
  int64_t left_;
  std::mutex mutex_;
  std::map<std::string, bool> faster_;
  std::map<std::string, std::shared_ptr<const Packing>> packings_;
  std::map<std::vector<int64_t>, std::shared_ptr<const Block>> blocks_;
};

// Reads operations until the bytes end. bf16: whether products that sum over channels are in it where
// that is faster, also those recorded in fp32.
std::vector<std::shared_ptr<const Operation>> read_operations(Fields& fields, const Slots& slots,
                                                              Weights& weights, bool bf16 = false);

}  // namespace fastgan
