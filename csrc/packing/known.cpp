#include "known.h"

#include <vector>

namespace fastgan {

Key& add_shape(Key& key, const Product& product) {
  key.add(product.linear).add(product.depthwise).add(product.channels).add(product.outputs);
  return key.add(product.block_height).add(product.block_width);
}

Key& add_taps(Key& key, const AxisPhase& phase) {
  key.add(phase.taps.size());
  for (const std::vector<Taps>& of_input : phase.taps) {
    key.add(of_input.size());
    for (const Taps& taps : of_input) {
      key.add(taps.size());
      for (const int64_t tap : taps) key.add(tap);
    }
  }
  return key;
}

}  // namespace fastgan
