#include <algorithm>

#include "operations.h"
#include "weights.h"

namespace fastgan {
namespace {

// Products to an item: less is over before another thread has begun.
constexpr int64_t kProductsPerItem = 1 << 15;

}  // namespace

Recurrent::Recurrent(const RecurrentShape& shape, std::shared_ptr<const Block> packed, int64_t steps,
                     int64_t images, bool backwards, const Tensors& tensors)
    : shape_(shape), packed_(std::move(packed)), steps_(steps), images_(images),
      backwards_(backwards), tensors_(tensors),
      lanes_(hidden_vectors(shape.cell) * kernels().width),
      blocks_(divide_up(shape.hidden, lanes_)) {
  const int64_t products = images * gates_of(shape_.cell) * lanes_ * shape_.hidden;
  blocks_each_ = std::clamp<int64_t>(kProductsPerItem / products, 1, blocks_);
}

int64_t Recurrent::scratch() const {
  const int64_t states = 2 + (shape_.cell == Cell::kRnn ? 0 : 1) + parts_of(shape_.cell) - 1;
  const int64_t weights = packing() * gates_of(shape_.cell) * blocks_ * lanes_ * shape_.hidden;
  return weights + states * images_ * shape_.hidden;
}

void Recurrent::run(const Memory& memory, int64_t stage, int64_t item) const {
  const int64_t hidden = shape_.hidden, parts = parts_of(shape_.cell);
  const int64_t first_block = item * blocks_each_;
  const int64_t last_block = std::min(blocks_, (item + 1) * blocks_each_);
  const Tensors& of = tensors_;
  float* states = memory.scratch;
  const float* weights = packed_ == nullptr ? memory.scratch : packed_->floats();
  if (packed_ == nullptr) {
    states += blocks_ * lanes_ * gates_of(shape_.cell) * hidden;
    if (stage == 0) {
      return pack_recurrence(memory.at(of.weight), shape_.cell, hidden, first_block, last_block,
                             memory.scratch);
    }
  }
  stage -= packing();
  const int64_t index = stage / parts, step = backwards_ ? steps_ - 1 - index : index;
  // Hidden values before and after, in turns, since all are read while some are written; a memory's
  // each for itself.
  const int64_t size = images_ * hidden;
  float* const turns[2] = {states, states + size};
  float *const after = turns[index % 2], *const kept = states + 2 * size;
  RecurrentPart part{&shape_,
                     images_,
                     first_block,
                     last_block,
                     weights,
                     memory.at(of.bias),
                     memory.at(of.peepholes),
                     memory.at(of.lengths),
                     step,
                     stage % parts,
                     {memory.at(of.in.place) + step * of.in.step, of.in.image},
                     {turns[(index + 1) % 2], hidden},
                     {kept, hidden},
                     {after, hidden},
                     {kept, hidden},
                     {kept + size, hidden}};
  if (index == 0) {
    part.hidden = {memory.at(of.hidden.place), of.hidden.image};
    if (shape_.cell == Cell::kLstm) part.memory = {memory.at(of.memory.place), of.memory.image};
  }
  kernels().recurrent(part);
  if (part.part + 1 < parts) return;
  const int64_t first = first_block * lanes_, last = std::min(hidden, last_block * lanes_);
  const auto copy = [&](const float* from, float* to, int64_t image) {
    for (int64_t i = 0; i < images_; ++i) {
      std::copy(from + i * hidden + first, from + i * hidden + last, to + i * image + first);
    }
  };
  if (of.out.place.given()) {
    float* const out = memory.at(of.out.place) + step * of.out.step;
    copy(after, out, of.out.image);
    for (int64_t i = 0; of.lengths.given() && i < images_; ++i) {
      float* const row = out + i * of.out.image;
      if (part.is_over(i)) std::fill(row + first, row + last, 0.0f);
    }
  }
  if (index + 1 < steps_) return;
  if (of.last_hidden.place.given()) {
    copy(after, memory.at(of.last_hidden.place), of.last_hidden.image);
  }
  if (of.last_memory.place.given()) {
    copy(kept, memory.at(of.last_memory.place), of.last_memory.image);
  }
}

}  // namespace fastgan
