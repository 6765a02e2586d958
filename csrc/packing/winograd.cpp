#include "winograd.h"

#include <initializer_list>

namespace fastgan {
namespace {

// What the weights of three taps become; for 4 on the points 0, +-3/4, +-3/2, infinity.
constexpr double kTwo[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
constexpr double kFour[6][3] = {{64. / 81, 0, 0},
                                {-128. / 243, -32. / 81, -8. / 27},
                                {-128. / 243, 32. / 81, -8. / 27},
                                {32. / 243, 16. / 81, 8. / 27},
                                {32. / 243, -16. / 81, 8. / 27},
                                {0, 0, 1}};

// It is to save this share of the time that is estimated.
constexpr double kSaves = 0.15;

constexpr int64_t kMostLanes = 64;

template <int N>
void transform(const double (&g)[N][3], const float* taps, int64_t lanes, float* to, int64_t step) {
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

}  // namespace

int64_t minimal(int64_t rows, int64_t columns, int64_t channels, int64_t blocks, int64_t vectors,
                int64_t width, int64_t most, double plain) {
  // Vector operations of an image: products, and the transforms of each input and output channel.
  const auto cost = [&](int64_t m) {
    const double outputs = static_cast<double>(blocks * vectors);
    if (m == 0) return plain * static_cast<double>(rows * columns * 9 * channels) * outputs;
    const double tiles = static_cast<double>((rows + m - 1) / m * ((columns + m - 1) / m));
    const double of_input = m == 2 ? 70 : 330, of_output = m == 2 ? 45 : 200;
    const double inputs = static_cast<double>((channels + width - 1) / width);
    const double products = static_cast<double>((m + 2) * (m + 2) * channels) * outputs;
    return tiles * (products + of_input * inputs + of_output * outputs);
  };
  int64_t best = 0;
  for (const int64_t m : {2, 4}) {
    if (m <= most && cost(m) < cost(best)) best = m;
  }
  return best == 0 || cost(best) > (1 - kSaves) * cost(0) ? 0 : best;
}

void transform_weights(int64_t m, const float* taps, int64_t lanes, float* to, int64_t step) {
  if (m == 2) {
    transform(kTwo, taps, lanes, to, step);
  } else {
    transform(kFour, taps, lanes, to, step);
  }
}

}  // namespace fastgan
