// One step of recurrent layers on one thread; included by kernels_code.h.
#pragma once

#include "kernels_math.h"

namespace fastgan {
namespace {

// Images that share the weights as they are read; by the registers.
constexpr int kRecurrentImages = FASTGAN_WIDTH == 16 ? 2 : 1;

// The hidden values of a vector, of what each gate is before its activation: the input's part, the
// state's.
template <Cell kCell>
FASTGAN_INLINE Vector hidden_of(const Vector* in, const Vector* state, const Vector* peepholes,
                                Vector before, Vector& memory) {
  if constexpr (kCell == Cell::kRnn) {
    return hyperbolic_tangent(in[0] + state[0]);
  } else if constexpr (kCell == Cell::kGru) {
    const Vector update = sigmoid(in[0] + state[0]), reset = sigmoid(in[1] + state[1]);
    const Vector fresh = hyperbolic_tangent(in[2] + reset * state[2]);
    return (1.0f - update) * fresh + update * before;
  } else {
    const Vector input = sigmoid(in[0] + state[0] + peepholes[0] * memory);
    const Vector forget = sigmoid(in[2] + state[2] + peepholes[2] * memory);
    memory = forget * memory + input * hyperbolic_tangent(in[3] + state[3]);
    return sigmoid(in[1] + state[1] + peepholes[1] * memory) * hyperbolic_tangent(memory);
  }
}

// A block of hidden values of kImages images. Each sum has one order, however many images there are.
template <Cell kCell, int kImages>
void recurrent_block(const RecurrentPart& part, int64_t block, int64_t image) {
  constexpr int kGates = gates_of(kCell), kBlock = kHiddenVectors;
  const RecurrentShape& shape = *part.shape;
  const int64_t hidden = shape.hidden, first = block * kBlock * kWidth;
  const auto lanes = [&](int vector) {
    const int64_t left = hidden - first - vector * kWidth;
    return left < 0 ? 0 : left < kWidth ? left : kWidth;
  };
  const auto read = [&](const float* row, int vector) {
    return row == nullptr ? Vector{} : load_some(row + first + vector * kWidth, lanes(vector));
  };
  Vector sums[kImages][kGates][kBlock];
  for (int g = 0; g < kGates; ++g) {
    const float* bias = shape.bias == nullptr ? nullptr : shape.bias + g * hidden;
    for (int v = 0; v < kBlock; ++v) {
      for (int i = 0; i < kImages; ++i) sums[i][g][v] = read(bias, v);
    }
  }
  if (part.hidden.at != nullptr) {
    const float* before = part.hidden.at + image * part.hidden.image;
    const float* weights = shape.weights + block * hidden * kGates * kBlock * kWidth;
    for (int64_t k = 0; k < hidden; ++k, weights += kGates * kBlock * kWidth) {
      Vector x[kImages];
      for (int i = 0; i < kImages; ++i) x[i] = splat(before[i * part.hidden.image + k]);
      for (int g = 0; g < kGates; ++g) {
        for (int v = 0; v < kBlock; ++v) {
          const Vector weight = load(weights + (g * kBlock + v) * kWidth);
          for (int i = 0; i < kImages; ++i) {
            sums[i][g][v] = multiply_add(x[i], weight, sums[i][g][v]);
          }
        }
      }
    }
  }
  for (int i = 0; i < kImages; ++i) {
    const auto row = [&](const auto& rows) {
      return rows.at == nullptr ? nullptr : rows.at + (image + i) * rows.image;
    };
    for (int v = 0; v < kBlock && lanes(v) > 0; ++v) {
      Vector in[kGates], state[kGates], peepholes[3] = {};
      for (int g = 0; g < kGates; ++g) {
        in[g] = read(row(part.in) + g * hidden, v);
        state[g] = sums[i][g][v];
      }
      if (shape.peepholes != nullptr) {
        for (int g = 0; g < 3; ++g) peepholes[g] = read(shape.peepholes + g * hidden, v);
      }
      Vector memory = read(row(part.memory), v);
      const Vector made =
          hidden_of<kCell>(in, state, peepholes, read(row(part.hidden), v), memory);
      const int64_t at = first + v * kWidth;
      store_some(row(part.new_hidden) + at, made, lanes(v));
      if constexpr (kCell == Cell::kLstm) store_some(row(part.new_memory) + at, memory, lanes(v));
    }
  }
}

template <Cell kCell>
void recurrent_blocks(const RecurrentPart& part) {
  for (int64_t block = part.first_block; block < part.last_block; ++block) {
    int64_t image = 0;
    for (; image + kRecurrentImages <= part.images; image += kRecurrentImages) {
      recurrent_block<kCell, kRecurrentImages>(part, block, image);
    }
    for (; image < part.images; ++image) recurrent_block<kCell, 1>(part, block, image);
  }
}

void recurrent(const RecurrentPart& part) {
  switch (part.shape->cell) {
    case Cell::kRnn: return recurrent_blocks<Cell::kRnn>(part);
    case Cell::kGru: return recurrent_blocks<Cell::kGru>(part);
    case Cell::kLstm: return recurrent_blocks<Cell::kLstm>(part);
  }
}

}  // namespace
}  // namespace fastgan
