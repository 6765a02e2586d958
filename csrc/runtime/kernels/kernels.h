// The inner loops of the runtime's operations, once for each instruction set, and what they take.
//
// Sizes count elements, strides floats. Operations (dense.cpp and its neighbours) cut the work and
// say where tensors lie; a kernel does one piece of it on one thread.
#pragma once

#include <stdint.h>

#include <cmath>
#include <utility>
#include <vector>

#include "../../divide.h"
#include "../../packing/layout.h"
#include "../../packing/winograd.h"

namespace fastgan {

// Functions of one number; the names are those of fastgan/plan/activations.py.
enum class Curve {
  kNone, kRelu, kLeakyRelu, kPrelu, kTanh, kSigmoid, kElu, kSilu, kGelu, kGeluTanh, kMish,
  kHardSwish, kSoftplus, kExp, kLog, kSqrt, kReciprocal, kNeg, kAbs, kErf, kSin, kCos
};

// What happens to a sum before it is stored: curve(scale * sum + bias + residual).
struct Epilogue {
  Curve curve = Curve::kNone;
  float parameter = 0;            // slope of a leaky ReLU, alpha of an ELU
  const float* slopes = nullptr;  // [channels], of a PReLU
  int64_t scale_image = 0;        // from an image's scales [channels] to the next one's
  // Of the residual; a channel's stride is 0 where all have the same.
  int64_t residual_image = 0, residual_row = 0, residual_pixel = 0, residual_channel = 1;
};

// What pixels beyond the edges are: zeros, the image reflected, or its edge.
enum class Border { kZeros, kReflect, kEdge };

// The most taps of a layer's phase.
constexpr int64_t kMostTaps = 512;

// So many channels, each by itself, leave a vector's lanes empty. Several pixels fill it where those
// are side by side (kernels_few.h), else all channels as one dense layer.
constexpr int64_t kFewChannels = 4;

// The most inputs of a pixel, of all taps, where those of a row are read as one.
constexpr int64_t kMostJoined = 256;

// Images [images, height, width, channels], channel after channel.
struct Grid {
  int64_t height, width, channels;
  int64_t image, row, pixel;  // strides
};

// Where the rows or columns that taps reach lie, also those beyond an edge; -1 of zeros.
struct Reach {
  int64_t before = 0;              // rows before the first
  std::vector<int64_t> at;         // of row r at [r + before]
  int64_t first = 0, last = 0;     // rows at which all taps meet the image: first <= row < last

  Reach() = default;
  // first_tap, last_tap: of all; most: the largest row that they are added to.
  Reach(int64_t size, int64_t stride, Border border, int64_t first_tap, int64_t last_tap,
        int64_t most);
};

// Pixels that share their weights. Pixel (y, x) of the phase reads the inputs (dy, dx) + (y, x) *
// in_step, its taps, and makes the patch of outputs at (out_y, out_x) + (y, x) * out_step. What of
// a patch lies over the edge is dropped.
struct DensePhase {
  // [blocks][taps][channels][lanes of a block], of Winograd's places as taps; null: of the call
  const void* weights;
  int64_t rows, columns, out_y, out_x;
  std::vector<std::pair<int64_t, int64_t>> taps;  // (dy, dx)
  Filtering filtering;             // of Winograd's
  const int8_t* signs;             // Winograd's, of the weights: see winograd.h
  bool sparse;                     // whether weights of -0 are none
  std::vector<int64_t> offsets{};  // of the taps within an image
  int64_t tiles = 0;               // that its pixels divide into, as even as can be
  int64_t joined = 1;              // taps of a row that are read as one: see kernels_lines.h
  int64_t pieces = 1;              // and of the rows of pixels, which are its tiles then
  int64_t line = 0;                // elements from one of their lines to the next
  int64_t panel = 0;               // floats of room for what a tile reads, see Bf16Kernels
  bool whole = false;              // no patch reaches over the edge
};

// Blocks of lanes that are computed at once where there is one pixel alone.
constexpr int64_t kBlocksOfAPixel = 4;

// Pixels of a tile of AMX's kernels, at most.
constexpr int64_t kMostPanelPixels = 32;

// Winograd tiles that are computed at once, at most.
constexpr int64_t kMostWinogradTiles = 36;

// Floats from one of Winograd's places to the next: no power of two, so that the places of a tile
// do not all fall on the same lines of a cache.
constexpr int64_t winograd_place(int64_t floats) { return ((floats + 15) / 16 | 1) * 16; }

// Inputs of a Winograd tile at each place: the parts' channels one after another, and what the last
// vector has beyond them.
inline int64_t winograd_inputs(const Filtering& as, int64_t channels, int64_t width) {
  const int64_t padded = divide_up(channels, width) * width;
  return (as.parts() - 1) * channels + padded;
}

// Convolutions, transposed ones and linear maps, which are one operation here: phases, each a grid
// of pixels that share their weights. A pixel makes a patch of output pixels, and the channels of
// the whole patch are its lanes. Most often a patch is one pixel; a stride-s transposed
// convolution then has s * s phases. One of several pixels fills the lanes of a vector where there
// are few channels, and a linear map into [height, width, channels] is one input pixel with a
// patch of all output pixels. Inputs and weights are elements of what runs it: floats, or
// bfloat16; inputs of Winograd's filtering are floats.
struct DenseShape {
  int64_t images;
  Grid in, out;
  Border border;
  int64_t vectors;  // to a block of lanes
  int64_t in_step_y, in_step_x, out_step_y, out_step_x, patch_height, patch_width;
  const float* bias;  // [blocks * lanes of a block], or null
  Epilogue epilogue;
  std::vector<DensePhase> phases;
  Reach rows{}, columns{};
  std::vector<float> zeros{};  // [channels]

  int64_t lanes() const { return patch_height * patch_width * out.channels; }
};

struct DensePart {
  const DenseShape* shape;
  const DensePhase* phase;
  const void* weights;
  const void* in;
  float* out;
  const float* residual;  // or null
  const float* scale;     // or null
  int64_t images, first_block, last_block, first_tile, last_tile;
  float* room;  // of a Winograd phase: [taps][tiles][channels], and a block's products; or lines
};

// Each channel by itself: taps of all of an image's channels.
struct DepthwiseShape {
  int64_t images;
  Grid in, out;
  int64_t step_y, step_x;
  std::vector<std::pair<int64_t, int64_t>> taps;
  const float* weights;  // [taps][channels]
  const float* bias;     // [channels], or null
  Epilogue epilogue;
  Reach rows{}, columns{};
  std::vector<float> zeros{};
  int64_t joined = 1;  // taps of a row that lie side by side
  // Of few channels, else empty: see kernels_few.h.
  std::vector<int64_t> lines{};  // the taps' rows, each once
  int64_t left = 0, span = 0;    // the first tap's column, and from it to the last one's
  int64_t step = 0;              // floats from one line's copy to the next
  std::vector<std::pair<int64_t, int64_t>> reads{};  // of each tap: its line, and where in that
  std::vector<float> pattern{}, biases{};            // [taps][lanes], [lanes]
};

struct DepthwisePart {
  const DepthwiseShape* shape;
  const float* in;
  float* out;
  const float* residual;
  const float* scale;
  int64_t image, y;
  float* room;  // of few channels: [lines][step]
};

// Rows that are computed at once where channels lie one behind another, and vectors of one at most.
constexpr int kPlaneRows = 4, kMostPlaneVectors = 4;

// Taps of a row at the most for lines that are not copied.
constexpr int kMostEdgeTaps = 16;

// The same where an image's channels lie one behind another, row by row.
struct Planes {
  int64_t height, width, image, channel, row;  // strides of the last three
};

struct PlanesShape {
  int64_t images, channels;
  Planes in, out;
  int64_t step_y, step_x, kernel_y, kernel_x, dilation_y, dilation_x, pad_y, pad_x;
  const float* weights;  // [channels][kernel_y][kernel_x]
  const float* bias;     // [channels], or null
  Epilogue epilogue;     // of no scale and no residual
  Reach rows{}, columns{};
  // Where a line holds all that a tap may reach, it is a copy; else it is the input's own, and
  // zeros are beyond. `lines` copies at the most, `line` floats each, of which `span` are pixels;
  // where more than two apart are an output's, those are side by side, `phase` floats of them.
  bool copied = false, zeros = false;  // zeros: whether they are what lies beyond
  int64_t lines = 0, line = 0, span = 0, phase = 0;
  // Columns of outputs whose taps lie within a line: inside_first <= column < inside_last.
  int64_t inside_first = 0, inside_last = 0;
  std::vector<int64_t> offsets{};  // of a row's taps, from an output's place in a line
  std::vector<char> read{};        // of each line, whether a tap does
};

struct PlanesPart {
  const PlanesShape* shape;
  const float* in;
  float* out;
  int64_t image, channel, first, last;  // rows
  float* room;  // of copies: [lines][line], and a line more
};

// One step of a small program on a running value: see fastgan.plan.types.Instruction.
enum class Code {
  kLoad, kAdd, kSub, kRsub, kMul, kDiv, kRdiv, kMinimum, kMaximum, kLeakyRelu, kElu, kSquare, kCurve
};

struct PointwiseStep {
  Code code;
  Curve curve;
  float number;
  int64_t tensor, kept, keep;  // -1: none
};

constexpr int64_t kMostDims = 8, kMostTensors = 8, kMostKept = 8;

struct PointwiseShape {
  int64_t dims = 0;
  int64_t sizes[kMostDims];
  int64_t strides[kMostTensors + 1][kMostDims];  // of the tensors; those of the output first
  bool dense[kMostTensors + 1];                  // whether it lies element after element
  std::vector<PointwiseStep> steps;
};

struct PointwisePart {
  const PointwiseShape* shape;
  float* out;
  const float* tensors[kMostTensors];
  int64_t first, last;  // elements
};

// Norms over an image's pixels and a group of channels.
struct NormShape {
  int64_t images, pixels_high, pixels_wide, groups;
  Grid in, out;
  bool centre;
  double epsilon;
  int64_t gamma_image, beta_image;
  Epilogue epilogue;
};

// Pixels first .. last - 1 of an image.
struct NormPart {
  const NormShape* shape;
  const float* in;
  float* out;
  const float* residual;
  int64_t image, first, last;
  float *mean, *deviation, *room;              // [channels] twice, [2 * channels]
  const float *centre, *scale, *shift;  // [channels]
};

// Norms and softmax of rows.
struct RowsShape {
  int64_t count, channels;
  int64_t in_row, out_row;
  bool softmax, centre;
  double epsilon;
  Epilogue epilogue;
};

struct RowsPart {
  const RowsShape* shape;
  const float* in;
  float* out;
  const float *gamma, *beta, *residual;
  int64_t first, last;
};

// Sums (or maxima) of a few weighted pixels: resizing and pooling.
struct ResampleAxis {
  int64_t outputs, taps;
  std::vector<int64_t> at;     // [outputs][taps]: offsets
  std::vector<float> weights;  // [outputs][taps]; a tap of weight 0 is not read, one of -0 is
};

// Whether a tap is none: of weight 0. One of -0 is read as any other. Each instruction set's own.
static inline bool is_gap(float weight) { return weight == 0 && !std::signbit(weight); }

struct ResampleShape {
  int64_t images, channels;
  int64_t in_image;
  int64_t out_image, out_row, out_pixel;
  bool maximum;
  ResampleAxis rows, columns;
  // Floats of a row that columns read, where rows are summed up first: each of them once, not for
  // each column that it is read for. 0: they are not.
  int64_t span = 0;
  // Of such rows, where pixels of few channels fill no vector, but lie one behind another: what
  // each vector of a row of outputs is made of. Lane l of vector v reads tap t at windows[v][t] +
  // lanes[v][t][l], the latter below a vector's width. Empty: pixel by pixel.
  std::vector<int64_t> windows;  // [vectors][taps]
  std::vector<int32_t> lanes;    // [vectors][taps][width]
  std::vector<float> factors;    // likewise; as `weights`, of which 0 is no tap
};

struct ResamplePart {
  const ResampleShape* shape;
  const float* in;
  float* out;
  int64_t image, y;
  float* room;  // [span]
};

// What elements of a row, or of any axes, become together.
enum class Fold { kSum, kAbsolute, kSquares, kMaximum, kMinimum };

struct ReduceAxes {
  int64_t dims = 0;
  int64_t sizes[kMostDims], in[kMostDims], out[kMostDims];  // strides; out: of those that are kept
};

struct ReduceShape {
  ReduceAxes kept, gone;  // innermost last; at least one of each
  Fold fold;
  bool root;    // of the fold
  float scale;  // of the fold, where no root is taken
};

struct ReducePart {
  const ReduceShape* shape;
  const float* in;
  float* out;
  int64_t first, last;  // outputs
};

// Matrices [rows][inner] by [inner][columns] to [rows][columns], of few rows or few columns.
struct DotsShape {
  int64_t count, rows, inner, columns;
  int64_t a_matrix, a_row, b_matrix, b_column;  // strides; along `inner` elements lie side by side
};

struct DotsPart {
  const DotsShape* shape;
  const float *a, *b;
  float* out;
  int64_t first, last;  // matrices
};

// Part of a matrix as a product's weights: rows of `lanes` columns, with zeros beyond its own.
struct PackPart {
  const float* in;
  float* out;
  int64_t rows, columns;
  int64_t row, column;  // strides
  int64_t lanes;
};

// Many matrices: from one to the next along each dimension of a batch, row, column.
struct Matrices {
  int64_t batch[kMostDims] = {}, row = 0, column = 0;  // strides
};

constexpr int64_t kMostBiases = 2;

// Keys whose scores are held at a time: longer lists are gone through in such parts.
constexpr int64_t kKeysAtOnce = 512;

// softmax(scale * query key + biases) value, of each query [rows][inner], key [inner][keys], value
// [keys][columns], bias [rows][keys] of a batch.
struct AttentionShape {
  int64_t dims = 0, sizes[kMostDims];  // of the batch
  int64_t rows, inner, keys, columns;
  float scale;
  bool zeros;  // whether a query that is left no key gets zeros; else NaN
  Matrices query, key, value, out;
  Matrices scales;  // one more factor for each of the batch, where it is given
  int64_t biases;
  Matrices bias[kMostBiases];

  // What a product's columns are padded to.
  static int64_t padded(int64_t columns, int64_t width) {
    const int64_t lanes = vectors_for(columns, width) * width;
    return divide_up(columns, lanes) * lanes;
  }
  // Floats of a part's room.
  int64_t room(int64_t most_rows, int64_t tile, int64_t width) const {
    const int64_t scores = keys < kKeysAtOnce ? padded(keys, width) : kKeysAtOnce;
    const int64_t copy = query.column == 1 || inner == 1 ? 0 : inner;
    return tile * (scores + 2 * width) + most_rows * (padded(columns, width) + copy + 2);
  }
};

// Rows first .. last - 1 of one of them.
struct AttentionPart {
  const AttentionShape* shape;
  const float* query;
  const float *key, *value;  // packed: [blocks][inner or keys][lanes of a block]
  float* out;
  float scale;
  const float* biases[kMostBiases];
  int64_t first, last;
  float* room;  // as AttentionShape says
};

// Recurrent layers: h' = tanh(x + W h + b) and its gated relatives. A GRU's reset comes before the
// product with its weights or after it; kGru is the latter.
enum class Cell { kRnn, kGru, kLstm, kGruResetFirst };

constexpr int64_t gates_of(Cell cell) {
  return cell == Cell::kRnn ? 1 : cell == Cell::kLstm ? 4 : 3;
}

// Parts of a step: what is reset before a product is made of all hidden values, and so before it.
constexpr int64_t parts_of(Cell cell) { return cell == Cell::kGruResetFirst ? 2 : 1; }

// Vectors of hidden values that are computed at once, so that several sums are under way.
constexpr int64_t hidden_vectors(Cell cell) {
  return cell == Cell::kRnn ? 8 : cell == Cell::kGruResetFirst ? 4 : 2;
}

// What a gate does to its sum: ONNX's functions for it, with their alpha and beta.
enum class GateCurve {
  kTanh, kSigmoid, kRelu, kAffine, kLeakyRelu, kThresholdedRelu, kScaledTanh, kHardSigmoid, kElu,
  kSoftsign, kSoftplus
};

struct GateFunction {
  GateCurve curve;
  float alpha, beta;
};

struct RecurrentShape {
  Cell cell;
  int64_t hidden;
  // Whether f, g and h are the operators' defaults, with no clip and no couple; else what they are.
  bool usual = true;
  GateFunction functions[3]{};
  float clip = INFINITY;  // bounds what f and g take
  bool couples = false;   // whether an LSTM forgets as much as it takes in
};

// Rows of images, one stride apart; null where there is none.
template <class T>
struct RowsOf {
  T* at = nullptr;
  int64_t image = 0;

  T* row(int64_t i) const { return at == nullptr ? nullptr : at + i * image; }
};

// Hidden values of blocks first_block .. last_block - 1 after one step of time.
struct RecurrentPart {
  const RecurrentShape* shape;
  int64_t images, first_block, last_block;
  const float* weights;    // [blocks][vectors][hidden][gates][lanes], in ONNX's order of gates
  const float* bias;       // [gates][hidden], or null
  const float* peepholes;  // [3][hidden] of an LSTM's input, output, forget gate, or null
  const float* lengths;    // [images], of sequences that end before others; or null
  int64_t step, part;
  RowsOf<const float> in;                // [gates][hidden]: what the step's input is in each gate
  RowsOf<const float> hidden, memory;    // before; null is zeros
  // A memory is an LSTM's, or what updates a GRU whose reset comes first: that makes this of
  // `hidden` in its part 0, and of both the next hidden values in its part 1.
  RowsOf<float> new_hidden, new_memory;
  RowsOf<float> reset;                   // hidden values that such a GRU keeps, from part to part

  bool is_over(int64_t image) const {
    return lengths != nullptr && !(static_cast<float>(step) < lengths[image]);
  }
};

// Pixels first .. last - 1 of an image [channels, pixels] as bytes [pixels, channels]:
// (value - low) * scale, clamped to 0 .. 255 and rounded to even; 0 of a NaN.
struct BytesPart {
  const float* in;
  uint8_t* out;
  int64_t channels, pixels, first, last;
  float low, scale;
};

struct Kernels {
  const char* name;
  int64_t width;  // floats to a vector
  int64_t rows;   // most pixels to a dense tile
  bool (*runs_here)();
  void (*dense)(const DensePart& part);
  void (*winograd)(const DensePart& part);
  void (*depthwise)(const DepthwisePart& part);
  void (*planes)(const PlanesPart& part);
  void (*pointwise)(const PointwisePart& part);
  void (*measure)(const NormPart& part);
  void (*normalise)(const NormPart& part);
  void (*rows_kernel)(const RowsPart& part);
  void (*resample)(const ResamplePart& part);
  void (*reduce)(const ReducePart& part);
  void (*dots)(const DotsPart& part);
  void (*pack)(const PackPart& part);
  void (*attention)(const AttentionPart& part);
  void (*recurrent)(const RecurrentPart& part);
  void (*bytes)(const BytesPart& part);
};

extern const Kernels kernels_avx512, kernels_avx2, kernels_portable;

// The best that run on this processor.
const Kernels& kernels();

// Dense layers of bfloat16 with sums and all that follows in floats. Whatever the instruction set,
// the results have the same bits but for the last ones of some activations; of those, and of all
// that is no such layer, AVX2 and AVX-512 make the same ones too, and portable code, which has no
// fused multiply-add, others. AMX alone, which is used where it is asked for, adds in another order.
struct Bf16Kernels {
  const char* name;
  int64_t width, rows;  // as Kernels has them
  bool (*runs_here)();
  // Floats of room for what a tile of kMostPanelPixels reads, where its pixels are put together
  // beforehand; else 0, and a tile has no more than `rows` of them. channels: an even number.
  int64_t (*panel)(int64_t pixels, int64_t taps, int64_t channels);
  void (*dense)(const DensePart& part);
  void (*winograd)(const DensePart& part);  // of floats; what they become is rounded
  // Pixels `step` floats apart to such side by side, with a zero behind an odd number of channels.
  void (*round)(const float* from, int64_t pixels, int64_t channels, int64_t step, uint16_t* to);
};

extern const Bf16Kernels bf16_kernels_amx, bf16_kernels_avx512, bf16_kernels_avx2,
    bf16_kernels_portable;

const Bf16Kernels& bf16_kernels();

}  // namespace fastgan
