// Packed weights, and what else is made of constants once for all programs of a model.
#pragma once

#include <stdint.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "../memory.h"
#include "../packing/known.h"
#include "../packing/packing.h"
#include "../packing/product.h"
#include "kernels/kernels.h"

namespace fastgan {

// Weights in the order in which this processor uses them: each once, for all programs of a model that
// lay it out alike, as most do for images of any size.
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
  // The same of a product without its numbers, if it is packed in such a layout by now; else null.
  Form found(const Product& product, int64_t most_minimal, bool bf16);

  std::shared_ptr<const Packing> packed(const Product& product, int64_t width, int64_t pack,
                                        int64_t most_minimal);
  int64_t bytes();  // of all that are used by now

  // A matrix [rows][columns] as [columns][rows].
  std::shared_ptr<const Block> transposed(const float* from, int64_t rows, int64_t columns);
  // A recurrent layer's matrices [gates][hidden][hidden] as RecurrentPart has them.
  std::shared_ptr<const Block> recurrence(const float* from, Cell cell, int64_t hidden);

 private:
  struct Made {
    std::weak_ptr<const Packing> it;
    std::shared_ptr<const Packing> kept;
  };

  bool is_known(const Product& product) const;
  // With the mutex held; null for a product without its numbers, where they are needed.
  std::shared_ptr<const Packing> make(const Product& product, int64_t width, int64_t pack,
                                      int64_t most_minimal);
  // See packing/forms.h.
  std::optional<bool> is_faster_in_bf16(const Product& product, int64_t most_minimal);
  void take(int64_t bytes);
  // What `fill` makes in so many floats; once for each key, where such stay.
  template <class Fill>
  std::shared_ptr<const Block> block(const std::vector<int64_t>& key, int64_t floats,
                                     const Fill& fill);

  std::atomic<int64_t> threads_;
  const bool keeps_;
  int64_t left_;
  std::mutex mutex_;
  Known known_;
  std::set<std::string> numbers_;  // of what was ever packed
  std::map<std::string, Made> packings_;
  std::map<std::vector<int64_t>, std::shared_ptr<const Block>> blocks_;  // where they stay
};

// Blocks first .. last - 1 of a recurrent layer's matrices, to `to`: see Weights::recurrence.
void pack_recurrence(const float* from, Cell cell, int64_t hidden, int64_t first, int64_t last,
                     float* to);

}  // namespace fastgan
