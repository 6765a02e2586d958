// Operations as bytes: what fastgan/engine/native/ writes, for one set of input shapes and any
// instruction set, and what a bundle holds (docs/bundle.md has the fields of each).
//
// Nothing is trusted: whatever the bytes, operations that are made of them stay within their tensors.
#pragma once

#include <atomic>
#include <functional>
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

// Weights in the order in which this processor uses them: each once, for all programs of a model.
class Weights {
 public:
  // threads: that pack, the calling one included. keeps: whether all stay until the end, and what
  // they are made of stays where it is; else what nobody uses goes, and each is known by its numbers.
  // most_bytes: that all that stay may take; beyond it std::bad_alloc is thrown.
  explicit Weights(int64_t threads, bool keeps = false, int64_t most_bytes = INT64_MAX)
      : threads_(threads), keeps_(keeps), left_(most_bytes) {}

  void share_out(int64_t threads) { threads_ = threads; }

  // Is told of so many floats that were packed: nobody needs them soon.
  std::function<void(const float*, int64_t)> behind;

  // As an operation takes it: with its factors in bf16 where it may and that is faster.
  struct Form {
    std::shared_ptr<const Packing> packing;
    bool rounds = false;
  };
  Form packed(const Product& product, int64_t most_minimal, bool bf16);
  // The same if it is packed by now, of a product without its numbers; else null.
  Form found(const Product& product, int64_t most_minimal, bool bf16);

  std::shared_ptr<const Packing> packed(const Product& product, int64_t width, int64_t pack,
                                        int64_t most_minimal);
  int64_t bytes();  // of all packings that are used by now

  // A matrix [rows][columns] as [columns][rows].
  std::shared_ptr<const Block> transposed(const float* from, int64_t rows, int64_t columns);
  // A recurrent layer's matrices [gates][hidden][hidden] as RecurrentShape has them.
  std::shared_ptr<const Block> recurrence(const float* from, int64_t gates, int64_t hidden,
                                          int64_t lanes);

 private:
  struct Known {
    std::weak_ptr<const Packing> it;
    std::shared_ptr<const Packing> kept;
  };

  bool is_known(const Product& product) const;
  bool is_faster_in_bf16(const Product& product, int64_t most_minimal);  // see packing.h
  void take(int64_t bytes);
  // What `fill` makes in so many floats; once for each key, where such stay.
  template <class Fill>
  std::shared_ptr<const Block> block(const std::vector<int64_t>& key, int64_t floats,
                                     const Fill& fill);

  std::atomic<int64_t> threads_;
  const bool keeps_;
  int64_t left_;
  std::mutex mutex_;
  std::map<std::string, bool> faster_;
  std::map<std::string, Known> packings_;
  std::map<std::vector<int64_t>, std::shared_ptr<const Block>> blocks_;  // where they stay
};

// Reads operations until the bytes end. bf16: whether products that sum over channels are in it where
// that is faster, also those recorded in fp32.
std::vector<std::shared_ptr<const Operation>> read_operations(Fields& fields, const Slots& slots,
                                                              Weights& weights, bool bf16 = false);

}  // namespace fastgan
