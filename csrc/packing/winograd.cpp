#include "winograd.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <type_traits>
#include <utility>

#include "../divide.h"
#include "../processor.h"
#include "bfloat16.h"

namespace fastgan {
namespace {

// It is to save this share of the time that is estimated.
constexpr double kSaves = 0.15, kSavesBf16 = 0.1;

// What a weight costs beside a product with it, since it comes from far for the tiles of one image:
// from a cache, or where a layer has many, from memory. A pair of bf16 costs half of that: products
// with it take longer than with floats. There those of all phases as they are filtered count.
constexpr double kNearWeight = 9, kFarWeight = 40;
constexpr double kManyWeights = 1 << 19;

template <int M, int R>
void transform(const float* taps, int64_t lanes, float* to, int64_t step) {
  constexpr int N = M + R - 1;
  const auto& g = Minimal<M, R>::weights;
  const auto sum = [](const double (&factors)[R], const auto* x, int64_t apart) {
    double total = 0;
    for (int k = 0; k < R; ++k) total += factors[k] * x[k * apart];
    return total;
  };
  double half[N][R][kMostLanes];
  for (int i = 0; i < N; ++i) {
    for (int x = 0; x < R; ++x) {
      for (int64_t l = 0; l < lanes; ++l) {
        half[i][x][l] = sum(g[i], taps + x * lanes + l, R * lanes);
      }
    }
  }
  for (int i = 0; i < N; ++i) {
    for (int j = 0; j < N; ++j, to += step) {
      for (int64_t l = 0; l < lanes; ++l) {
        to[l] = static_cast<float>(sum(g[j], half[i][0] + l, kMostLanes));
      }
    }
  }
}

// to = matrix from matrix^T.
template <int I, int K>
void between(const float (&matrix)[I][K], const float (&from)[K][K], float (&to)[I][I]) {
  float half[I][K];
  for (int i = 0; i < I; ++i) {
    for (int k = 0; k < K; ++k) {
      half[i][k] = 0;
      for (int l = 0; l < K; ++l) half[i][k] += matrix[i][l] * from[l][k];
    }
  }
  for (int i = 0; i < I; ++i) {
    for (int j = 0; j < I; ++j) {
      to[i][j] = 0;
      for (int k = 0; k < K; ++k) to[i][j] += half[i][k] * matrix[j][k];
    }
  }
}

template <int M, int R>
double error(const float* taps, int64_t channels, int64_t lanes, bool bf16) {
  constexpr int N = M + R - 1;
  std::vector<float> weights(N * N * lanes), products(N * N * lanes);
  std::vector<double> exact(M * M * lanes);
  uint32_t random = 1;
  float in[N][N], places[N][N];
  for (int64_t c = 0; c < channels; ++c, taps += R * R * lanes) {
    for (auto& row : in) {
      for (float& x : row) {
        random = random * 1664525 + 1013904223;  // Numerical Recipes' generator
        x = static_cast<float>(static_cast<int32_t>(random) >> 8) / 0x800000;
      }
    }
    between(Minimal<M, R>::in, in, places);
    transform<M, R>(taps, lanes, weights.data(), lanes);
    if (bf16) {
      for (float& weight : weights) weight = as_bfloat16(weight);
    }
    for (int p = 0; p < N * N; ++p) {
      const float place = places[p / N][p % N], x = bf16 ? as_bfloat16(place) : place;
      for (int64_t l = 0; l < lanes; ++l) products[p * lanes + l] += x * weights[p * lanes + l];
    }
    for (int p = 0; p < M * M; ++p) {
      for (int t = 0; t < R * R; ++t) {
        const double x = in[p / M + t / R][p % M + t % R];
        for (int64_t l = 0; l < lanes; ++l) exact[p * lanes + l] += x * taps[t * lanes + l];
      }
    }
  }
  double errors = 0, squares = 0;
  float made[M][M];
  for (int64_t l = 0; l < lanes; ++l) {
    for (int p = 0; p < N * N; ++p) places[p / N][p % N] = products[p * lanes + l];
    between(Minimal<M, R>::out, places, made);
    for (int p = 0; p < M * M; ++p) {
      const double right = exact[p * lanes + l], wrong = made[p / M][p % M] - right;
      errors += wrong * wrong, squares += right * right;
    }
  }
  return errors == 0 ? 0 : std::sqrt(errors / squares);
}

// Calls a function with the tile and taps as constants.
template <class F>
auto by(const Filtering& of, const F& function) {
  using std::integral_constant;
  const integral_constant<int, 2> two;
  const integral_constant<int, 3> three;
  if (of.taps == 2) return of.pixels == 2 ? function(two, two) : function(three, two);
  return of.pixels == 2 ? function(two, three) : function(integral_constant<int, 4>(), three);
}

}  // namespace

double phase_cost(const Filtering& as, const PhaseSize& of) {
  const auto up = [](int64_t a, int64_t b) { return static_cast<double>(divide_up(a, b)); };
  const double inputs = up(of.channels, kNominal), outputs = up(of.lanes, kNominal);
  const double factors = up(of.channels, of.pack) * outputs;
  const double places = static_cast<double>(as.places()), parts = static_cast<double>(as.parts());
  const double weights = static_cast<double>(of.taps) * factors;
  double many = weights;
  if (of.pack > 1) {
    many = static_cast<double>(of.phases) * (as.pixels == 0 ? weights : places * parts * factors);
  }
  double weight = many * kNominal > kManyWeights ? kFarWeight : kNearWeight;
  weight /= static_cast<double>(of.pack);
  if (as.pixels == 0) return (up(of.rows, 1) * up(of.columns, 1) + weight) * weights;
  const double tiles = up(of.rows, as.pixels) * up(of.columns, as.pixels);
  double of_input = places < 16 ? 75 : places == 16 ? 130 : 430;
  double of_output = places < 16 ? 55 : as.pixels == 2 ? 90 : as.pixels == 3 ? 120 : 330;
  // In bf16 by itself, against F(4x4) of floats: half the bytes are stored of an input, so that most
  // of the time goes into the outputs.
  if (of.pack > 1 && as.pixels == 2 && as.taps == 3) of_input = 75, of_output = 200;
  const double transforms = of_input * parts * inputs + of_output * outputs;
  return (tiles + weight) * places * parts * factors + tiles * transforms;
}

std::vector<int64_t> minimal(const Filtering& as, const PhaseSize& of, int64_t most) {
  const auto cost = [&](int64_t m) { return phase_cost({m, as.taps, as.stride}, of); };
  const double enough = (1 - (of.pack > 1 ? kSavesBf16 : kSaves)) * cost(0);
  std::vector<int64_t> found;
  for (const int64_t m : {2, as.taps == 2 ? 3 : 4}) {
    if (m <= most && cost(m) <= enough) found.push_back(m);
  }
  if (found.size() == 2 && cost(found[1]) < cost(found[0])) std::swap(found[0], found[1]);
  return found;
}

double minimal_error(const Filtering& of, const float* taps, int64_t channels, int64_t lanes,
                     bool bf16) {
  return by(of, [&](auto m, auto r) { return error<m, r>(taps, channels, lanes, bf16); });
}

void transform_weights(const Filtering& of, const float* taps, int64_t lanes, float* to,
                       int64_t step) {
  by(of, [&](auto m, auto r) { transform<m, r>(taps, lanes, to, step); });
}

}  // namespace fastgan
