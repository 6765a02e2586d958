#include <algorithm>

#include "../workers.h"
#include "operations.h"

namespace fastgan {
namespace {

// What an item takes, in multiply-adds, at the least; a score's exponential is worth some.
constexpr int64_t kWorkPerItem = 1 << 18, kExponential = 32;

// Rows of one matrix that share what is read of its keys, and items that there are to be.
constexpr int64_t kRowsPerItem = 96, kItems = 16;

}  // namespace

Attention::Attention(AttentionShape shape, Place query, Place key, Place value, Place out,
                     Place scales, const Place (&biases)[kMostBiases])
    : shape_(shape), query_(query), key_(key), value_(value), out_(out), scales_(scales) {
  std::copy(biases, biases + kMostBiases, biases_);
  for (int64_t d = 0; d < shape_.dims; ++d) count_ *= shape_.sizes[d];
  const int64_t width = kernels().width, tile = kernels().rows;
  const int64_t keys = AttentionShape::padded(shape_.keys, width);
  const int64_t columns = AttentionShape::padded(shape_.columns, width);
  key_blocks_ = keys / (vectors_for(shape_.keys, width) * width);
  value_blocks_ = columns / (vectors_for(shape_.columns, width) * width);
  key_floats_ = keys * shape_.inner, value_floats_ = columns * shape_.keys;
  const int64_t work = shape_.rows * shape_.keys * (shape_.inner + shape_.columns + kExponential);
  const int64_t tiles = divide_up(shape_.rows, tile);
  parts_ = std::max(divide_up(shape_.rows, kRowsPerItem), divide_up(kItems, count_));
  parts_ = std::clamp<int64_t>(std::min(parts_, work / kWorkPerItem), 1, tiles);
  if (parts_ == 1) each_ = std::clamp<int64_t>(kWorkPerItem / work, 1, count_);
}

int64_t Attention::items(int64_t stage) const {
  if (parts_ == 1) return divide_up(count_, each_);
  return count_ * (stage == 0 ? blocks() : parts_);
}

int64_t Attention::room() const {
  const int64_t rows = divide_up(shape_.rows, parts_);
  const int64_t packed = parts_ > 1 ? 0 : key_floats_ + value_floats_;
  return divide_up(shape_.room(rows, kernels().rows, kernels().width) + packed, 16) * 16;
}

int64_t Attention::offset(const Matrices& strides, int64_t matrix) const {
  int64_t at = 0;
  for (int64_t d = shape_.dims - 1; d >= 0; matrix /= shape_.sizes[d--]) {
    at += matrix % shape_.sizes[d] * strides.batch[d];
  }
  return at;
}

void Attention::pack(const Memory& memory, int64_t matrix, int64_t block, float* to) const {
  const bool keys = block < key_blocks_;
  const Matrices& as = keys ? shape_.key : shape_.value;
  const int64_t rows = keys ? shape_.inner : shape_.keys;
  const int64_t columns = keys ? shape_.keys : shape_.columns;
  const int64_t lanes = vectors_for(columns, kernels().width) * kernels().width;
  const int64_t first = (keys ? block : block - key_blocks_) * lanes;
  const float* in = memory.at(keys ? key_ : value_) + offset(as, matrix) + first * as.column;
  to += (keys ? 0 : key_floats_) + first * rows;
  kernels().pack({in, to, rows, std::min(lanes, columns - first), as.row, as.column, lanes});
}

void Attention::attend(const Memory& memory, int64_t matrix, int64_t part, const float* packed,
                       float* room) const {
  AttentionPart one{&shape_,
                    memory.at(query_) + offset(shape_.query, matrix),
                    packed,
                    packed + key_floats_,
                    memory.at(out_) + offset(shape_.out, matrix),
                    shape_.scale,
                    {},
                    part * shape_.rows / parts_,
                    (part + 1) * shape_.rows / parts_,
                    room};
  if (scales_.given()) one.scale *= memory.at(scales_)[offset(shape_.scales, matrix)];
  for (int64_t b = 0; b < shape_.biases; ++b) {
    one.biases[b] = memory.at(biases_[b]) + offset(shape_.bias[b], matrix);
  }
  kernels().attention(one);
}

void Attention::run(const Memory& memory, int64_t stage, int64_t item) const {
  float* const room = memory.rooms + this_thread() * memory.room;
  const int64_t packed = key_floats_ + value_floats_;
  if (parts_ > 1) {
    if (stage == 0) {
      const int64_t matrix = item / blocks();
      return pack(memory, matrix, item % blocks(), memory.scratch + matrix * packed);
    }
    const int64_t matrix = item / parts_;
    return attend(memory, matrix, item % parts_, memory.scratch + matrix * packed, room);
  }
  const int64_t last = std::min(count_, (item + 1) * each_);
  for (int64_t matrix = item * each_; matrix < last; ++matrix) {
    for (int64_t block = 0; block < blocks(); ++block) pack(memory, matrix, block, room);
    attend(memory, matrix, 0, room, room + packed);
  }
}

}  // namespace fastgan
