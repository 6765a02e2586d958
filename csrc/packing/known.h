// What is known of products that were packed before, and the keys by which it is found again.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "../memory.h"
#include "axis.h"
#include "product.h"

namespace fastgan {

// Numbers and the like, by which something is found again.
class Key {
 public:
  template <class T>
  Key& add(const T& value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// How a product's shape divides what it is packed of, whatever the size of images.
Key& add_shape(Key& key, const Product& product);

// The taps of a phase along an axis, for each output of a patch, whichever inputs they read.
Key& add_taps(Key& key, const AxisPhase& phase);

// What products of the same weights have in common. Layers of images of another size are most often
// laid out alike, and weights that were packed so are not even read for them.
struct Known {
  std::map<std::string, std::weak_ptr<const Block>> blocks;  // that somebody has
  std::map<std::string, bool> exact;  // whether a tile of Winograd's is exact enough for weights
};

}  // namespace fastgan
