// Which phases are computed by Winograd's minimal filtering, and their weights.
//
// A tile of M x M pixels and R x R taps takes (M + R - 1)^2 products for each input and output
// channel instead of M^2 R^2 (Lavin and Gray, 2016). Of 3 x 3 taps: 2.25 times fewer with M = 2,
// four times with M = 4; of the 2 x 2 that a transposed convolution of kernel 4 and stride 2 has in
// each phase: 1.78 times with M = 2, 2.25 times with M = 3. A convolution of kernel 4 and stride 2
// is the sum of four such ones, of its input's even and odd rows and columns. The kernels are
// runtime/kernels/kernels_winograd.h.
#pragma once

#include <stdint.h>

#include <vector>

namespace fastgan {

// How a phase is filtered.
struct Filtering {
  int64_t pixels = 0;  // of a tile along an axis: 2, 3 or 4; 0: not at all
  int64_t taps = 3;    // along an axis: 2 or 3
  int64_t stride = 1;  // 2: of even and odd rows and columns, whose taps these are

  constexpr int64_t places() const { return (pixels + taps - 1) * (pixels + taps - 1); }
  constexpr int64_t parts() const { return stride * stride; }
  // Which of the phase's taps tap t of a part is.
  int64_t tap(int64_t part, int64_t t) const {
    const int64_t y = t / taps * stride + part / stride, x = t % taps * stride + part % stride;
    return y * taps * stride + x;
  }
};

// What M + R - 1 inputs become along an axis, what R weights do, and what products do. Rows 1, 2
// and 3, 4 of `in`, and these columns of `out`, are of a point and its negative: the same but for
// the signs of every second number.
template <int M, int R>
struct Minimal;

template <>
struct Minimal<2, 2> {  // on the points 0, 1 and infinity
  static constexpr float in[3][3] = {{1, -1, 0}, {0, 1, 0}, {0, -1, 1}};
  static constexpr double weights[3][2] = {{1, 0}, {1, 1}, {0, 1}};
  static constexpr float out[2][3] = {{1, 1, 0}, {0, 1, 1}};
};

template <>
struct Minimal<3, 2> {  // on 0, +-1 and infinity
  static constexpr float in[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}};
  static constexpr double weights[4][2] = {{1, 0}, {0.5, 0.5}, {0.5, -0.5}, {0, 1}};
  static constexpr float out[3][4] = {{1, 1, 1, 0}, {0, 1, -1, 0}, {0, 1, 1, 1}};
};

template <>
struct Minimal<2, 3> {  // on the same
  static constexpr float in[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}};
  static constexpr double weights[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
  static constexpr float out[2][4] = {{1, 1, 1, 0}, {0, 1, -1, 1}};
};

template <>
struct Minimal<4, 3> {  // on 0, +-3/4, +-3/2 and infinity: errors half those of 0, +-1, +-2
  static constexpr float in[6][6] = {
      {1.265625f, 0, -2.8125f, 0, 1, 0},    {0, -1.6875f, -2.25f, 0.75f, 1, 0},
      {0, 1.6875f, -2.25f, -0.75f, 1, 0},   {0, -0.84375f, -0.5625f, 1.5f, 1, 0},
      {0, 0.84375f, -0.5625f, -1.5f, 1, 0}, {0, 1.265625f, 0, -2.8125f, 0, 1}};
  static constexpr double weights[6][3] = {{64. / 81, 0, 0},
                                           {-128. / 243, -32. / 81, -8. / 27},
                                           {-128. / 243, 32. / 81, -8. / 27},
                                           {32. / 243, 16. / 81, 8. / 27},
                                           {32. / 243, -16. / 81, 8. / 27},
                                           {0, 0, 1}};
  static constexpr float out[4][6] = {{1, 1, 1, 1, 1, 0},
                                      {0, 0.75f, -0.75f, 1.5f, -1.5f, 0},
                                      {0, 0.5625f, 0.5625f, 2.25f, 2.25f, 0},
                                      {0, 0.421875f, -0.421875f, 3.375f, -3.375f, 1}};
};

// A phase of a product, of one image.
struct PhaseSize {
  int64_t taps, rows, columns, channels, lanes;
  int64_t phases;  // of the product
  int64_t pack;    // channels to a product: 2 of bf16, whose pairs take as long as floats
};

// The vector operations that it takes: products, and where it is filtered the transforms of each
// input and output channel.
double phase_cost(const Filtering& as, const PhaseSize& of);

// The pixels of a tile, up to `most`, that save enough of that; what saves the most first. For any
// number of images. as: taps and stride of the phase.
std::vector<int64_t> minimal(const Filtering& as, const PhaseSize& of, int64_t most);

// The error of a layer that is allowed, as `minimal_error` measures it: an eighth of what images
// may differ by in all (fastgan/measure/tolerances.py). Errors of layers are independent, and
// those of 64 at the limit add up, as squares, to that. In bf16 it is 40 dB, a hundredth of the
// range, of images that deviate by a quarter of it. Factors that are rounded as they are make half
// of this error.
constexpr double kMinimalError = 2e-5 / 8, kMinimalErrorBf16 = 0.04 / 8;

// The error of a tile against fp64, root mean squares of errors by those of results, of inputs
// between -1 and 1. taps: [channels][taps of a part][lanes], the parts as channels. bf16: whether
// factors are rounded to it.
double minimal_error(const Filtering& of, const float* taps, int64_t channels, int64_t lanes,
                     bool bf16);

// What is left of a weight beside an infinity; kNoWeight: nothing comes to this lane that way.
enum Sign : int8_t { kNegative = -1, kZero = 0, kPositive = 1, kNoWeight = 2 };

// The most lanes of a block.
constexpr int64_t kMostLanes = 64;

// Taps of a part [taps][lanes] -> [places] rows of `lanes`, each `step` floats after the one before.
// lanes: up to kMostLanes.
void transform_weights(const Filtering& of, const float* taps, int64_t lanes, float* to,
                       int64_t step);

}  // namespace fastgan
