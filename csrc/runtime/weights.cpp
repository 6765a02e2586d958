#include "weights.h"

#include <iterator>
#include <new>

#include "../divide.h"
#include "../packing/forms.h"
#include "fields.h"

namespace fastgan {
namespace {

// The last element of a weight.
int64_t reach_of(const Product& p) {
  const int64_t sizes[6] = {p.rows.kernel,  p.columns.kernel, p.depthwise ? 1 : p.channels,
                            p.block_height, p.block_width,    p.outputs};
  int64_t last = 0;
  for (int i = 0; i < 6; ++i) last += (sizes[i] - 1) * p.strides[i];
  return last;
}

// Which numbers a product has.
Key numbers_of(const Product& product) {
  Key key;
  key.add(product.weight_number == 0 ? product.weight : nullptr).add(product.weight_number);
  key.add(product.strides);
  key.add(product.bias_number == 0 ? product.bias : nullptr).add(product.bias_number);
  return key.add(product.bias_strides);
}

// What a packing is known by: a product, and what was asked of it.
std::string key_of(const Product& product, std::initializer_list<int64_t> asked) {
  Key key = numbers_of(product);
  for (const Axis* axis : {&product.rows, &product.columns}) {
    for (const int64_t number : {int64_t{axis->transposed}, axis->inputs, axis->outputs,
                                 axis->kernel, axis->stride, axis->pad, axis->dilation,
                                 axis->repeats}) {
      key.add(number);
    }
  }
  add_shape(key, product);
  for (const int64_t number : asked) key.add(number);
  return key.text();
}

// Forgets what nobody has any more.
template <class Map, class F>
void drop_expired(Map& map, const F& it) {
  for (auto each = map.begin(); each != map.end();) {
    each = it(each->second).expired() ? map.erase(each) : std::next(each);
  }
}

}  // namespace

void Weights::take(int64_t bytes) {
  if (!keeps_) return;
  if (bytes > left_) throw std::bad_alloc();
  left_ -= bytes;
}

bool Weights::is_known(const Product& product) const {
  const bool biased = product.bias != nullptr || product.bias_number != 0;
  return keeps_ || (product.weight_number != 0 && (!biased || product.bias_number != 0));
}

std::optional<bool> Weights::is_faster_in_bf16(const Product& product, int64_t most_minimal) {
  Known none;
  Known& known = is_known(product) ? known_ : none;
  return fastgan::is_faster_in_bf16(product, most_minimal, left_, numbers_of(product), known);
}

Weights::Form Weights::packed(const Product& product, int64_t most_minimal, bool bf16) {
  const Form form = found(product, most_minimal, bf16);
  require(form.packing != nullptr, "a weight that is not there");
  return form;
}

Weights::Form Weights::found(const Product& product, int64_t most_minimal, bool bf16) {
  const std::lock_guard<std::mutex> lock(mutex_);
  // What was never packed is not laid out in vain.
  if (product.weight == nullptr && numbers_.count(numbers_of(product).text()) == 0) return {};
  const std::optional<bool> rounds = bf16 ? is_faster_in_bf16(product, most_minimal) : false;
  if (!rounds.has_value()) return {};
  const int64_t width = *rounds ? bf16_kernels().width : kernels().width;
  return {make(product, width, *rounds ? 2 : 1, most_minimal), *rounds};
}

std::shared_ptr<const Packing> Weights::packed(const Product& product, int64_t width, int64_t pack,
                                               int64_t most_minimal) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::shared_ptr<const Packing> found = make(product, width, pack, most_minimal);
  require(found != nullptr, "a weight that is not there");
  return found;
}

std::shared_ptr<const Packing> Weights::make(const Product& product, int64_t width, int64_t pack,
                                             int64_t most_minimal) {
  const std::string key = key_of(product, {width, pack, most_minimal});
  const auto at = packings_.find(key);
  std::shared_ptr<const Packing> found = at == packings_.end() ? nullptr : at->second.it.lock();
  if (found != nullptr) return found;
  drop_expired(packings_, [](const Made& made) { return made.it; });
  drop_expired(known_.blocks, [](const std::weak_ptr<const Block>& block) { return block; });
  Known none;
  Known& known = is_known(product) ? known_ : none;
  found = fastgan::pack(product, width, pack, most_minimal, threads_, left_, numbers_of(product),
                        known);
  if (found == nullptr) return nullptr;
  if (found->memory.use_count() == 1) {  // else others have it
    take(found->memory->bytes());
    if (behind) behind(product.weight, reach_of(product) + 1);
  }
  if (is_known(product)) {
    packings_[key] = {found, keeps_ ? found : nullptr};
    numbers_.insert(numbers_of(product).text());
  }
  return found;
}

int64_t Weights::bytes() {
  const std::lock_guard<std::mutex> lock(mutex_);
  int64_t sum = 0;
  for (const auto& [key, block] : known_.blocks) {
    const std::shared_ptr<const Block> found = block.lock();
    if (found != nullptr) sum += found->bytes();
  }
  return sum;
}

std::shared_ptr<const Block> Weights::transposed(const float* from, int64_t rows, int64_t columns) {
  return block({reinterpret_cast<intptr_t>(from), rows, columns}, rows * columns, [&](float* to) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) to[c * rows + r] = from[r * columns + c];
    }
  });
}

std::shared_ptr<const Block> Weights::recurrence(const float* from, Cell cell, int64_t hidden) {
  const int64_t lanes = hidden_vectors(cell) * kernels().width, blocks = divide_up(hidden, lanes);
  const std::vector<int64_t> key = {reinterpret_cast<intptr_t>(from), static_cast<int64_t>(cell),
                                    hidden, lanes};
  return block(key, blocks * lanes * gates_of(cell) * hidden, [&](float* to) {
    pack_recurrence(from, cell, hidden, 0, blocks, to);
  });
}

void pack_recurrence(const float* from, Cell cell, int64_t hidden, int64_t first, int64_t last,
                     float* to) {
  const int64_t vectors = hidden_vectors(cell), width = kernels().width, gates = gates_of(cell);
  to += first * vectors * hidden * gates * width;
  for (int64_t vector = first * vectors; vector < last * vectors; ++vector) {
    for (int64_t input = 0; input < hidden; ++input) {
      for (int64_t gate = 0; gate < gates; ++gate) {
        for (int64_t lane = vector * width; lane < (vector + 1) * width; ++lane) {
          *to++ = lane < hidden ? from[(gate * hidden + lane) * hidden + input] : 0;
        }
      }
    }
  }
}

template <class Fill>
std::shared_ptr<const Block> Weights::block(const std::vector<int64_t>& key, int64_t floats,
                                            const Fill& fill) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto at = blocks_.find(key);
  if (at != blocks_.end()) return at->second;
  const int64_t bytes = floats * static_cast<int64_t>(sizeof(float));
  take(bytes);
  auto made = std::make_shared<Block>(bytes);
  fill(made->floats());
  if (keeps_) blocks_[key] = made;
  return made;
}

}  // namespace fastgan
