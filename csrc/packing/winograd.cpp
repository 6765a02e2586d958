#include "winograd.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <vector>

namespace fastgan {
namespace {

// It is to save this share of the time that is estimated.
constexpr double kSaves = 0.15;

// What a weight costs beside a product with it, since it comes from far for the tiles of one image.
constexpr double kWeight = 9;

// The vectors that time is estimated for, whichever there are.
constexpr int64_t kNominal = 8;

constexpr int64_t kMostLanes = 64;

template <int M>
void transform(const float* taps, int64_t lanes, float* to, int64_t step) {
  constexpr int N = M + 2;
  const auto& g = Minimal<M>::weights;
  double half[N][3][kMostLanes];
  for (int i = 0; i < N; ++i) {
    for (int x = 0; x < 3; ++x) {
      const float *a = taps + x * lanes, *b = a + 3 * lanes, *c = b + 3 * lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        half[i][x][l] = g[i][0] * a[l] + g[i][1] * b[l] + g[i][2] * c[l];
      }
    }
  }
  for (int i = 0; i < N; ++i) {
    for (int j = 0; j < N; ++j, to += step) {
      const double *a = half[i][0], *b = half[i][1], *c = half[i][2];
      for (int64_t l = 0; l < lanes; ++l) {
        to[l] = static_cast<float>(g[j][0] * a[l] + g[j][1] * b[l] + g[j][2] * c[l]);
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

template <int M>
double error(const float* taps, int64_t channels, int64_t lanes) {
  constexpr int N = M + 2;
  std::vector<float> weights(N * N * lanes), products(N * N * lanes);
  std::vector<double> exact(M * M * lanes);
  uint32_t random = 1;
  float in[N][N], places[N][N];
  for (int64_t c = 0; c < channels; ++c, taps += 9 * lanes) {
    for (auto& row : in) {
      for (float& x : row) {
        random = random * 1664525 + 1013904223;  // Numerical Recipes' generator
        x = static_cast<float>(static_cast<int32_t>(random) >> 8) / 0x800000;
      }
    }
    between(Minimal<M>::in, in, places);
    transform<M>(taps, lanes, weights.data(), lanes);
    for (int p = 0; p < N * N; ++p) {
      const float x = places[p / N][p % N];
      for (int64_t l = 0; l < lanes; ++l) products[p * lanes + l] += x * weights[p * lanes + l];
    }
    for (int p = 0; p < M * M; ++p) {
      for (int t = 0; t < 9; ++t) {
        const double x = in[p / M + t / 3][p % M + t % 3];
        for (int64_t l = 0; l < lanes; ++l) exact[p * lanes + l] += x * taps[t * lanes + l];
      }
    }
  }
  double errors = 0, squares = 0;
  float made[M][M];
  for (int64_t l = 0; l < lanes; ++l) {
    for (int p = 0; p < N * N; ++p) places[p / N][p % N] = products[p * lanes + l];
    between(Minimal<M>::out, places, made);
    for (int p = 0; p < M * M; ++p) {
      const double right = exact[p * lanes + l], wrong = made[p / M][p % M] - right;
      errors += wrong * wrong, squares += right * right;
    }
  }
  return errors == 0 ? 0 : std::sqrt(errors / squares);
}

}  // namespace

int64_t minimal(int64_t rows, int64_t columns, int64_t channels, int64_t lanes, int64_t most,
                double plain) {
  // Vector operations of an image: products, and the transforms of each input and output channel.
  const auto up = [](int64_t a, int64_t b) { return static_cast<double>((a + b - 1) / b); };
  const double inputs = up(channels, kNominal), outputs = up(lanes, kNominal);
  const auto cost = [&](int64_t m) {
    const double products = static_cast<double>(channels) * outputs;
    if (m == 0) return plain * (up(rows, 1) * up(columns, 1) + kWeight) * 9 * products;
    const double tiles = up(rows, m) * up(columns, m);
    const double of_input = m == 2 ? 130 : 430, of_output = m == 2 ? 90 : 330;
    const double places = m == 2 ? 16 : 36;
    const double transforms = of_input * inputs + of_output * outputs;
    return (tiles + kWeight) * places * products + tiles * transforms;
  };
  int64_t best = 0;
  for (const int64_t m : {2, 4}) {
    if (m <= most && cost(m) < cost(best)) best = m;
  }
  return best == 0 || cost(best) > (1 - kSaves) * cost(0) ? 0 : best;
}

double minimal_error(int64_t m, const float* taps, int64_t channels, int64_t lanes) {
  return m == 2 ? error<2>(taps, channels, lanes) : error<4>(taps, channels, lanes);
}

void transform_weights(int64_t m, const float* taps, int64_t lanes, float* to, int64_t step) {
  if (m == 2) {
    transform<2>(taps, lanes, to, step);
  } else {
    transform<4>(taps, lanes, to, step);
  }
}

}  // namespace fastgan
