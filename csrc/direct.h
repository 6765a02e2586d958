// A chain of dense layers on the CPU in fp32, run in one call: convolutions, transposed ones and
// linear maps, each with its bias and activation.
//
// All three are one operation here. A layer has phases: grids of pixels that share their weights.
// Each pixel of a phase reads the same taps around its place in the input, and makes a patch of
// output pixels; the channels of the whole patch are its lanes. Most often a patch is one pixel; a
// stride-s transposed convolution then has s * s phases. A patch of several pixels fills the lanes
// of a vector where there are few channels, and a linear map into [height, width, channels] is one
// input pixel with a patch of all output pixels. fastgan/backends/direct.py makes the layers.
//
// Images lie pixel by pixel (NHWC), between layers with a border of zeros as wide as the next
// layer's taps reach, so that no loop asks where an image ends.
#pragma once

#include <stdint.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace fastgan {

enum class After { kNone, kRelu, kLeakyRelu, kTanh, kSigmoid };

// Images [height, width, channels] with borders, in floats.
struct Images {
  int64_t height, width, channels;
  int64_t top = 0, left = 0, bottom = 0, right = 0;

  int64_t row() const { return (left + width + right) * channels; }
  int64_t size() const { return (top + height + bottom) * row(); }
  int64_t at(int64_t y, int64_t x) const { return (top + y) * row() + (left + x) * channels; }
};

// The pixels (y, x) of a phase read the inputs (dy, dx) + (y, x) * in_step, its taps, and make the
// patch at (out_y, out_x) + (y, x) * out_step. What of a patch lies over the edge is dropped.
struct Phase {
  const float* weights;  // [blocks][taps][channels of the input][lanes of a block], 64-byte aligned
  int64_t rows, columns;
  int64_t out_y, out_x;
  std::vector<std::pair<int64_t, int64_t>> taps;  // (dy, dx)
  std::vector<int64_t> offsets;                   // of the taps, in floats; made by Program
  bool whole = false;                             // no patch reaches over the edge; made by Program
};

struct Layer {
  Images in, out;
  bool planar;  // the output is [channels, height, width], with no borders
  After after;
  float slope;        // of kLeakyRelu
  const float* bias;  // [blocks * lanes of a block], or null
  int64_t vectors;    // to a block of lanes: 1 or 2
  int64_t in_step_y, in_step_x, out_step_y, out_step_x, patch_height, patch_width;
  std::vector<Phase> phases;

  int64_t lanes() const { return patch_height * patch_width * out.channels; }
};

// Tiles first .. last - 1 of one block of lanes of a phase; a tile is up to `rows` of the pixels of
// all images, taken in order.
struct Part {
  const Layer* layer;
  const Phase* phase;
  const float* in;
  float* out;
  int64_t images, block, first, last;
};

// One instruction set's code.
struct DirectPath {
  const char* name;
  int64_t width;  // floats to a vector
  int64_t rows;   // most pixels to a tile
  bool (*runs_here)();
  void (*run)(const Part& part);
};

extern const DirectPath direct_avx2, direct_avx512;

// The paths that run on this processor, best first.
const std::vector<const DirectPath*>& direct_paths();

class Program {
 public:
  // Throws std::invalid_argument for layers that do not fit together, or an unknown path.
  Program(int64_t images, std::vector<Layer> layers, const std::string& path);

  // Reads `in`, images without borders, and writes `out`, all of it. From any thread.
  void run(const float* in, float* out, int64_t threads);

 private:
  // How the items of a layer divide one of its phases: by blocks of lanes, then by tiles.
  struct Split {
    int64_t blocks, tiles, blocks_each, tiles_each, first_item;
  };
  struct Run;
  using Workspace = std::vector<float>;

  std::unique_ptr<Workspace> take();
  void give(std::unique_ptr<Workspace> workspace);
  static void work(void* run, int64_t stage, int64_t item);

  const int64_t images_;
  const DirectPath* path_;
  std::vector<Layer> layers_;
  std::vector<std::vector<Split>> splits_;  // of each layer's phases
  std::vector<int64_t> items_;    // of each layer
  std::vector<int64_t> offsets_;  // of each layer's output in the workspace
  int64_t floats_ = 0;            // of a workspace
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

}  // namespace fastgan
