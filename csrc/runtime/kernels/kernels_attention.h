// Attention on one thread; included by kernels_code.h.
//
// Rows of queries go in tiles through keys and values: what a tile's scores are, some keys at a time,
// stays in the nearest cache. Beyond kKeysAtOnce keys, sums that were taken above another maximum are
// brought to the new one as keys follow, as in Milakov and Gimelshein, "Online normalizer calculation
// for softmax", 2018.
#pragma once

#include "kernels_reduce.h"
#include "kernels_tile.h"

namespace fastgan {
namespace {

// Vectors of exponentials that are made at once.
constexpr int kAtOnce = FASTGAN_WIDTH == 16 ? 4 : 2;

// e^x of each for x <= 0; 0 where that is no normal number: e^-88 is, as its power of two has no
// exponent.
template <int N>
FASTGAN_INLINE void shares_of(Vector (&x)[N]) {
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) x[i] = select(x[i] < -87.0f, splat(-88.0f), x[i]);
  exponentials(x);
}

// Elements column .. column + n - 1 of a row of a bias.
FASTGAN_INLINE Vector bias_of(const float* row, int64_t step, int64_t column, int64_t n) {
  if (step == 1) return n < kWidth ? load_some(row + column, n) : load(row + column);
  if (step == 0) return splat(*row);
  Vector found{};
  for (int64_t i = 0; i < n && i < kWidth; ++i) found[i] = row[(column + i) * step];
  return found;
}

// Where scores go: of a tile's rows and a block of lanes, of which n are there and the others are -inf.
struct Scores {
  const AttentionShape* shape;
  float scale;
  const float* biases[kMostBiases][kMostRows];  // at the first of all keys
  int64_t key, n;                               // the block's first one, and how many there are
  float* to;
  int64_t step;     // floats from one row's to the next one's
  Vector* largest;  // of each row, so far
};

// Those of R rows by V vectors of keys, all of which are there; so are biases, side by side.
template <int R, int V>
FASTGAN_NOINLINE void score_block(const float* const* in, int64_t inner, const float* keys,
                                  const Scores& as) {
  Vector sums[R][V] = {};
  const float* x[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) x[r] = in[r];
  for (int64_t c = 0; c < inner; ++c, keys += V * kWidth) {
    Vector w[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) w[v] = load(keys + v * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vector a = splat(x[r][c]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sums[r][v] = multiply_add(a, w[v], sums[r][v]);
    }
  }
  const Vector scale = splat(as.scale);
  const int64_t biases = as.shape->biases;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      Vector score = sums[r][v] * scale;
      if (biases > 0) score += load(as.biases[0][r] + as.key + v * kWidth);
      if (biases > 1) score += load(as.biases[1][r] + as.key + v * kWidth);
      store(as.to + r * as.step + v * kWidth, score);
      as.largest[r] = larger_of(score, as.largest[r]);
    }
  }
}
static_assert(kMostBiases == 2, "score_block has them one by one");

using ScoreBlock = void (*)(const float* const*, int64_t, const float*, const Scores&);

struct ScoreBlocks {
  template <int R, int V>
  static constexpr ScoreBlock of = score_block<R, V>;
};

// The same of any block, of whose products they are made.
inline void finish_scores(const float* products, int64_t rows, int64_t block, const Scores& as) {
  const AttentionShape& shape = *as.shape;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < block; i += kWidth) {
      const int64_t n = as.n - i;
      Vector score = load(products + r * block + i) * as.scale;
      for (int64_t b = 0; b < shape.biases && n > 0; ++b) {
        score += bias_of(as.biases[b][r], shape.bias[b].column, as.key + i, n);
      }
      for (int64_t lane = n < 0 ? 0 : n; lane < kWidth; ++lane) score[lane] = -INFINITY;
      store(as.to + r * as.step + i, score);
      as.largest[r] = larger_of(score, as.largest[r]);
    }
  }
}

// A part of an attention's rows, and where it keeps what.
class Attending {
 public:
  explicit Attending(const AttentionPart& part)
      : part_(part),
        shape_(*part.shape),
        rows_(part.last - part.first),
        key_vectors_(vectors_for(shape_.keys, kWidth)),
        value_vectors_(vectors_for(shape_.columns, kWidth)),
        step_(shape_.keys < kKeysAtOnce ? shape_.padded(shape_.keys, kWidth) : kKeysAtOnce),
        wide_(shape_.padded(shape_.columns, kWidth)),
        scores_(part.room),
        products_(scores_ + kMostRows * step_),
        sums_(products_ + kMostRows * kMostBlock),
        most_(sums_ + rows_ * wide_),
        totals_(most_ + rows_),
        query_(part.query + part.first * shape_.query.row),
        query_row_(shape_.query.row) {
    if (shape_.query.column != 1 && shape_.inner != 1) copy_query(totals_ + rows_);
    for (int64_t b = 0; b < shape_.biases; ++b) {
      side_by_side_ = side_by_side_ && shape_.bias[b].column == 1;
    }
    for (int64_t r = 0; r < rows_; ++r) most_[r] = -INFINITY;
  }

  void run() {
    const int64_t tiles = divide_up(rows_, kMostRows);
    for (int64_t key = 0; key < shape_.keys; key += kKeysAtOnce) {
      const int64_t left = shape_.keys - key, keys = left < kKeysAtOnce ? left : kKeysAtOnce;
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t first = t * rows_ / tiles, count = (t + 1) * rows_ / tiles - first;
        score(first, count, key, keys);
        weigh(first, count, key, keys);
        add(first, count, key, keys);
      }
    }
    write();
  }

 private:
  void copy_query(float* to) {
    const Matrices& q = shape_.query;
    pack({query_, to, rows_, shape_.inner, q.row, q.column, shape_.inner});
    query_ = to, query_row_ = shape_.inner;
  }

  // scores_: of some keys, scaled and with their biases; -inf beyond the last one.
  void score(int64_t first, int64_t count, int64_t key, int64_t keys) {
    const int64_t block = key_vectors_ * kWidth;
    const ScoreBlock whole = made_for<ScoreBlocks>(count, key_vectors_);
    const float* in[kMostRows];
    Scores as;
    as.shape = &shape_, as.scale = part_.scale, as.step = step_, as.largest = largest_;
    for (int64_t r = 0; r < count; ++r) {
      in[r] = query_ + (first + r) * query_row_;
      largest_[r] = splat(-INFINITY);
      for (int64_t b = 0; b < shape_.biases; ++b) {
        as.biases[b][r] = part_.biases[b] + (part_.first + first + r) * shape_.bias[b].row;
      }
    }
    const float* at = part_.key + key * shape_.inner;
    for (int64_t k = 0; k < keys; k += block, at += block * shape_.inner) {
      as.key = key + k, as.n = keys - k, as.to = scores_ + k;
      if (side_by_side_ && as.n >= block) {
        whole(in, shape_.inner, at, as);
      } else {
        made_for<Multiplies>(count, key_vectors_)(in, 1, shape_.inner, at, products_);
        finish_scores(products_, count, block, as);
      }
    }
  }

  // Scores as shares of what is added up in totals_; factors_ is what earlier shares are to be
  // multiplied with.
  void weigh(int64_t first, int64_t count, int64_t key, int64_t keys) {
    float bases[kMostRows];
    for (int64_t r = 0; r < count; ++r) {
      const float before = most_[first + r], here = largest_of(largest_[r]);
      const float most = most_[first + r] = here > before ? here : before;
      bases[r] = most == -INFINITY ? 0 : most;  // so far no key is left
      if (key > 0) {
        Vector kept[1] = {splat(before - bases[r])};
        shares_of(kept);
        factors_[r] = kept[0][0];
      }
    }
    Vector sums[kMostRows];
    for (int64_t r = 0; r < count; ++r) {
      float* const x = scores_ + r * step_;
      const Vector base = splat(bases[r]);
      Vector sum{};
      int64_t i = 0;
      for (; i + kAtOnce * kWidth <= keys; i += kAtOnce * kWidth) {
        Vector e[kAtOnce];
#pragma GCC unroll 8
        for (int v = 0; v < kAtOnce; ++v) e[v] = load(x + i + v * kWidth) - base;
        shares_of(e);
#pragma GCC unroll 8
        for (int v = 0; v < kAtOnce; ++v) {
          store(x + i + v * kWidth, e[v]);
          sum += e[v];
        }
      }
      for (; i < keys; i += kWidth) {
        Vector e[1] = {load(x + i) - base};
        shares_of(e);
        store(x + i, e[0]);
        sum += e[0];
      }
      sums[r] = sum;
    }
    for (int64_t r = 0; r < count; ++r) {
      const float before = key > 0 ? totals_[first + r] * factors_[r] : 0;
      totals_[first + r] = before + total_of(sums[r]);
    }
  }

  // Adds the shares of some keys' values to sums_.
  void add(int64_t first, int64_t count, int64_t key, int64_t keys) {
    const int64_t block = value_vectors_ * kWidth;
    const Multiply multiply = made_for<Multiplies>(count, value_vectors_);
    const float* in[kMostRows];
    for (int64_t r = 0; r < count; ++r) in[r] = scores_ + r * step_;
    for (int64_t c = 0; c < wide_; c += block) {
      multiply(in, 1, keys, part_.value + c * shape_.keys + key * block, products_);
      for (int64_t r = 0; r < count; ++r) {
        float* const to = sums_ + (first + r) * wide_ + c;
        for (int64_t v = 0; v < block; v += kWidth) {
          const Vector made = load(products_ + r * block + v);
          store(to + v, key == 0 ? made : multiply_add(load(to + v), splat(factors_[r]), made));
        }
      }
    }
  }

  void write() {
    const Matrices& as = shape_.out;
    float* const out = part_.out + part_.first * as.row;
    const bool whole = as.column == 1 || shape_.columns == 1;
    for (int64_t r = 0; r < rows_; ++r) {
      float* const from = sums_ + r * wide_;
      float* const to = whole ? out + r * as.row : from;
      const float share = shape_.zeros && totals_[r] == 0 ? 0 : 1 / totals_[r];
      int64_t c = 0;
      for (; c + kWidth <= shape_.columns; c += kWidth) store(to + c, load(from + c) * share);
      const int64_t rest = shape_.columns - c;
      if (rest > 0) store_some(to + c, load_some(from + c, rest) * share, rest);
    }
    if (whole) return;
    if (as.row == 1) return transpose(sums_, wide_, shape_.columns, rows_, out, as.column);
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < shape_.columns; ++c) {
        out[r * as.row + c * as.column] = sums_[r * wide_ + c];
      }
    }
  }

  const AttentionPart& part_;
  const AttentionShape& shape_;
  const int64_t rows_, key_vectors_, value_vectors_;
  const int64_t step_, wide_;  // floats from one row's scores, and sums, to the next one's
  float *const scores_, *const products_, *const sums_, *const most_, *const totals_;
  float factors_[kMostRows];
  Vector largest_[kMostRows];
  const float* query_;
  int64_t query_row_;
  bool side_by_side_ = true;  // whether all biases' keys are
};

void attention(const AttentionPart& part) { Attending(part).run(); }

}  // namespace
}  // namespace fastgan
