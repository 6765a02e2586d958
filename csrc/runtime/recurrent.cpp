#include <algorithm>

#include "operations.h"

namespace fastgan {
namespace {

// Products to an item: less is over before another thread has begun.
constexpr int64_t kProductsPerItem = 1 << 15;

}  // namespace

Recurrent::Recurrent(RecurrentShape shape, std::shared_ptr<const Block> weights, int64_t steps,
                     int64_t images, bool backwards, Steps in, Steps out, State hidden, State memory,
                     State last_hidden, State last_memory)
    : shape_(shape), weights_(std::move(weights)), steps_(steps), images_(images),
      backwards_(backwards), in_(in), out_(out), hidden_(hidden), memory_(memory),
      last_hidden_(last_hidden), last_memory_(last_memory) {
  const int64_t lanes = kHiddenVectors * kernels().width;
  blocks_ = divide_up(shape_.hidden, lanes);
  const int64_t products = images * gates_of(shape_.cell) * lanes * shape_.hidden;
  blocks_each_ = std::clamp<int64_t>(kProductsPerItem / products, 1, blocks_);
}

void Recurrent::run(const Memory& memory, int64_t stage, int64_t item) const {
  const int64_t hidden = shape_.hidden, step = backwards_ ? steps_ - 1 - stage : stage;
  // Hidden values before and after, in turns, since all are read while some are written; a memory's
  // each for itself.
  float* const turns[2] = {memory.scratch, memory.scratch + images_ * hidden};
  float *after = turns[stage % 2], *kept = memory.scratch + 2 * images_ * hidden;
  RecurrentPart part{&shape_,
                     images_,
                     item * blocks_each_,
                     std::min(blocks_, (item + 1) * blocks_each_),
                     {memory.at(in_.place) + step * in_.step, in_.image},
                     {turns[(stage + 1) % 2], hidden},
                     {kept, hidden},
                     {after, hidden},
                     {kept, hidden}};
  if (stage == 0) {
    part.hidden = {memory.at(hidden_.place), hidden_.image};
    part.memory = {memory.at(memory_.place), memory_.image};
  }
  kernels().recurrent(part);
  const int64_t lanes = kHiddenVectors * kernels().width;
  const int64_t first = part.first_block * lanes, last = std::min(hidden, part.last_block * lanes);
  const auto copy = [&](const float* from, float* to, int64_t image) {
    for (int64_t i = 0; i < images_; ++i) {
      std::copy(from + i * hidden + first, from + i * hidden + last, to + i * image + first);
    }
  };
  if (out_.place.given()) copy(after, memory.at(out_.place) + step * out_.step, out_.image);
  if (stage + 1 < steps_) return;
  if (last_hidden_.place.given()) copy(after, memory.at(last_hidden_.place), last_hidden_.image);
  if (last_memory_.place.given()) copy(kept, memory.at(last_memory_.place), last_memory_.image);
}

}  // namespace fastgan
