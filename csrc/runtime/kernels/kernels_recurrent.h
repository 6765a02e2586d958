// One step of recurrent layers on one thread; included by kernels_code.h.
#pragma once

#include "kernels_math.h"

namespace fastgan {
namespace {

// Sums that are under way at once: by the registers.
constexpr int kSumsAtOnce = FASTGAN_WIDTH == 16 ? 24 : 12;

// The most images that share the weights as they are read.
constexpr int images_at_once(int gates) {
  return kSumsAtOnce / gates < 4 ? kSumsAtOnce / gates : 4;
}

// Vectors of a block that are computed at once for so many images: the most that divide it.
constexpr int vectors_at_once(int block, int gates, int images) {
  int vectors = block;
  while (vectors > 1 && (block % vectors != 0 || vectors * gates * images > kSumsAtOnce)) --vectors;
  return vectors;
}

// Adds the products of all hidden values to the sums of some gates of kVectors vectors, kBlock from
// one image's to the next, gates innermost. Each sum has one order, however many images there are.
//
// step: from one hidden value's weights to the next one's; vector: from one vector's to the next one's.
template <int kImages, int kVectors, int kBlock, int kGates>
FASTGAN_INLINE void add_products(const RowsOf<const float>& in, int64_t image, int64_t hidden,
                                 const float* weights, int64_t step, int64_t vector, Vector* all) {
  constexpr int kSums = kVectors * kGates;
  const float* rows[kImages];
  Vector sums[kImages][kSums];
#pragma GCC unroll 8
  for (int i = 0; i < kImages; ++i) {
    rows[i] = in.row(image + i);
#pragma GCC unroll 32
    for (int s = 0; s < kSums; ++s) sums[i][s] = all[i * kBlock * kGates + s];
  }
  for (int64_t k = 0; k < hidden; ++k, weights += step) {
    Vector w[kSums];
#pragma GCC unroll 32
    for (int s = 0; s < kSums; ++s) w[s] = load(weights + s / kGates * vector + s % kGates * kWidth);
#pragma GCC unroll 8
    for (int i = 0; i < kImages; ++i) {
      const Vector x = splat(rows[i][k]);
#pragma GCC unroll 32
      for (int s = 0; s < kSums; ++s) sums[i][s] = multiply_add(x, w[s], sums[i][s]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kImages; ++i) {
#pragma GCC unroll 32
    for (int s = 0; s < kSums; ++s) all[i * kBlock * kGates + s] = sums[i][s];
  }
}

FASTGAN_NOINLINE Vector function_of(const GateFunction& f, Vector x) {
  const Vector one = splat(1.0f);
  switch (f.curve) {
    case GateCurve::kTanh: return hyperbolic_tangent(x);
    case GateCurve::kSigmoid: return sigmoid(x);
    case GateCurve::kRelu: return negative_part(x, Vector{});
    case GateCurve::kAffine: return multiply_add(x, splat(f.alpha), splat(f.beta));
    case GateCurve::kLeakyRelu: return negative_part(x, x * f.alpha);
    case GateCurve::kThresholdedRelu: return select(x <= f.alpha, Vector{}, x);
    case GateCurve::kScaledTanh: return f.alpha * hyperbolic_tangent(f.beta * x);
    case GateCurve::kHardSigmoid:
      return clamp(multiply_add(x, splat(f.alpha), splat(f.beta)), 0.0f, 1.0f);
    case GateCurve::kElu: return curve_of(Curve::kElu, f.alpha, x);
    case GateCurve::kSoftsign: return x / (one + magnitude(x));
    case GateCurve::kSoftplus: return softplus(x);
  }
  return x;
}

// The functions of a layer's gates: those that nearly all have, or any.
template <Cell kCell>
struct UsualFunctions {
  FASTGAN_INLINE Vector f(Vector x) const {
    return kCell == Cell::kRnn ? hyperbolic_tangent(x) : sigmoid(x);
  }
  FASTGAN_INLINE Vector g(Vector x) const { return hyperbolic_tangent(x); }
  FASTGAN_INLINE Vector h(Vector x) const { return hyperbolic_tangent(x); }
  static constexpr bool couples = false;
};

struct AnyFunctions {
  const RecurrentShape& shape;
  bool couples;

  Vector clipped(Vector x) const { return clamp(x, -shape.clip, shape.clip); }
  Vector f(Vector x) const { return function_of(shape.functions[0], clipped(x)); }
  Vector g(Vector x) const { return function_of(shape.functions[1], clipped(x)); }
  Vector h(Vector x) const { return function_of(shape.functions[2], x); }
};

// What becomes of a vector of hidden values and its memory, and of an LSTM's its memory and how far
// its output gate is open: h(memory) times that are its hidden values. in, state: what each gate is
// before its function, of the input and of the state. peepholes: three of an LSTM, or null.
template <Cell kCell, int kPart, class Functions>
FASTGAN_INLINE Vector hidden_of(const Functions& of, const Vector* in, const Vector* state,
                                const Vector* peepholes, Vector before, Vector& memory) {
  if constexpr (kCell == Cell::kRnn) {
    return of.f(in[0] + state[0]);
  } else if constexpr (kCell == Cell::kGru) {
    const Vector update = of.f(in[0] + state[0]), reset = of.f(in[1] + state[1]);
    const Vector fresh = of.g(in[2] + reset * state[2]);
    return (1.0f - update) * fresh + update * before;
  } else if constexpr (kCell == Cell::kLstm) {
    const auto sum = [&](int gate) {
      const Vector x = in[gate] + state[gate];
      return peepholes == nullptr ? x : x + peepholes[gate] * memory;
    };
    const Vector input = of.f(sum(0)), forget = of.couples ? 1.0f - input : of.f(sum(2));
    memory = forget * memory + input * of.g(in[3] + state[3]);
    return of.f(sum(1));
  } else if constexpr (kPart == 0) {
    memory = of.f(in[0] + state[0]);
    return of.f(in[1] + state[1]) * before;
  } else {
    return (1.0f - memory) * of.g(in[0] + state[0]) + memory * before;
  }
}

// A block of hidden values of kImages images.
template <Cell kCell, int kPart, int kImages>
void recurrent_block(const RecurrentPart& part, int64_t block, int64_t image) {
  constexpr int kAllGates = gates_of(kCell), kBlock = hidden_vectors(kCell);
  // Of a GRU whose reset comes first: update and reset, then the new values.
  constexpr bool kInParts = parts_of(kCell) > 1;
  constexpr int kFirst = kInParts && kPart == 1 ? 2 : 0;
  constexpr int kGates = !kInParts ? kAllGates : kPart == 0 ? 2 : 1;
  constexpr int kVectors = vectors_at_once(kBlock, kGates, kImages);
  const RecurrentShape& shape = *part.shape;
  const int64_t hidden = shape.hidden, first = block * kBlock * kWidth;
  const auto lanes = [&](int vector) {
    const int64_t left = hidden - first - vector * kWidth;
    return left < 0 ? 0 : left < kWidth ? left : kWidth;
  };
  const auto read = [&](const float* row, int vector) {
    return row == nullptr ? Vector{} : load_some(row + first + vector * kWidth, lanes(vector));
  };
  const RowsOf<const float> factors =
      kFirst > 0 ? RowsOf<const float>{part.reset.at, part.reset.image} : part.hidden;
  alignas(64) Vector all[kImages][kBlock][kGates];
  for (int v = 0; v < kBlock; ++v) {
    for (int g = 0; g < kGates; ++g) {
      const Vector from = read(part.bias == nullptr ? nullptr : part.bias + (kFirst + g) * hidden, v);
#pragma GCC unroll 8
      for (int i = 0; i < kImages; ++i) all[i][v][g] = from;
    }
  }
  if (factors.at != nullptr) {
    constexpr int64_t kStep = kAllGates * kWidth;
    const float* weights = part.weights + block * kBlock * hidden * kStep + kFirst * kWidth;
    for (int v = 0; v < kBlock; v += kVectors) {
      add_products<kImages, kVectors, kBlock, kGates>(factors, image, hidden,
                                                      weights + v * hidden * kStep, kStep,
                                                      hidden * kStep, all[0][v]);
    }
  }
  for (int i = 0; i < kImages; ++i) {
    const int64_t own = image + i;
    for (int v = 0; v < kBlock && lanes(v) > 0; ++v) {
      Vector in[kGates], state[kGates], peepholes[3];
      for (int g = 0; g < kGates; ++g) {
        in[g] = read(part.in.row(own) + (kFirst + g) * hidden, v);
        state[g] = all[i][v][g];
      }
      const bool peeps = kCell == Cell::kLstm && part.peepholes != nullptr;
      if (peeps) {
        for (int g = 0; g < 3; ++g) peepholes[g] = read(part.peepholes + g * hidden, v);
      }
      Vector before = read(part.hidden.row(own), v), memory = read(part.memory.row(own), v);
      const auto made = [&](const auto& functions) {
        return hidden_of<kCell, kPart>(functions, in, state, peeps ? peepholes : nullptr, before,
                                       memory);
      };
      const Vector now = shape.usual ? made(UsualFunctions<kCell>{})
                                     : made(AnyFunctions{shape, shape.couples});
      const int64_t at = first + v * kWidth, n = lanes(v);
      constexpr bool kResets = kInParts && kPart == 0;
      if constexpr (kCell == Cell::kLstm) {
        all[i][v][0] = memory, all[i][v][1] = now;
      } else {
        store_some((kResets ? part.reset : part.new_hidden).row(own) + at, now, n);
      }
      if constexpr (kCell == Cell::kLstm || kResets) {
        store_some(part.new_memory.row(own) + at, memory, n);
      }
    }
  }
  if constexpr (kCell == Cell::kLstm) {  // on their own, so that none waits for its memory
    for (int i = 0; i < kImages; ++i) {
      for (int v = 0; v < kBlock && lanes(v) > 0; ++v) {
        const Vector memory = all[i][v][0];
        const Vector bent = shape.usual ? UsualFunctions<kCell>{}.h(memory)
                                        : AnyFunctions{shape, shape.couples}.h(memory);
        float* const to = part.new_hidden.row(image + i) + first + v * kWidth;
        store_some(to, all[i][v][1] * bent, lanes(v));
      }
    }
  }
}

// What a sequence that is over keeps.
void keep_state(const RecurrentPart& part, int64_t first, int64_t last, int64_t image) {
  const auto keep = [&](const RowsOf<const float>& from, const RowsOf<float>& to) {
    const float* row = from.row(image);
    float* const out = to.row(image);
    if (out == nullptr || out == row) return;
    for (int64_t i = first; i < last; ++i) out[i] = row == nullptr ? 0.0f : row[i];
  };
  keep(part.hidden, part.new_hidden);
  if (part.shape->cell == Cell::kLstm) keep(part.memory, part.new_memory);
}

// Images image .. image + n - 1, none of which is over, of blocks that follow each other.
template <Cell kCell, int kPart>
void recurrent_images(const RecurrentPart& part, int64_t block, int64_t image, int64_t n) {
  constexpr int kMost = images_at_once(gates_of(kCell));
  switch (n) {
    case 1: return recurrent_block<kCell, kPart, 1>(part, block, image);
    case 2: return recurrent_block<kCell, kPart, 2>(part, block, image);
    case 3: return recurrent_block<kCell, kPart, 3>(part, block, image);
    default: return recurrent_block<kCell, kPart, kMost>(part, block, image);
  }
}

template <Cell kCell, int kPart>
void recurrent_blocks(const RecurrentPart& part) {
  constexpr int64_t kMost = images_at_once(gates_of(kCell));
  const int64_t lanes = hidden_vectors(kCell) * kWidth, hidden = part.shape->hidden;
  for (int64_t block = part.first_block; block < part.last_block; ++block) {
    const int64_t first = block * lanes, last = hidden < first + lanes ? hidden : first + lanes;
    for (int64_t image = 0; image < part.images;) {
      int64_t n = 0;
      while (n < kMost && image + n < part.images && !part.is_over(image + n)) ++n;
      if (n == 0) {
        keep_state(part, first, last, image++);
        continue;
      }
      recurrent_images<kCell, kPart>(part, block, image, n);
      image += n;
    }
  }
}

void recurrent(const RecurrentPart& part) {
  switch (part.shape->cell) {
    case Cell::kRnn: return recurrent_blocks<Cell::kRnn, 0>(part);
    case Cell::kGru: return recurrent_blocks<Cell::kGru, 0>(part);
    case Cell::kLstm: return recurrent_blocks<Cell::kLstm, 0>(part);
    case Cell::kGruResetFirst:
      return part.part == 0 ? recurrent_blocks<Cell::kGruResetFirst, 0>(part)
                            : recurrent_blocks<Cell::kGruResetFirst, 1>(part);
  }
}

}  // namespace
}  // namespace fastgan
