// A chain of dense layers on the CPU, run in one call: convolutions, transposed ones and linear
// maps, each with its bias and activation; in fp32, or with bf16 inputs and fp32 sums.
//
// All three are one operation here. A layer has phases: grids of pixels that share their weights.
// Each pixel of a phase reads the same taps around its place in the input, and makes a patch of
// output pixels; the channels of the whole patch are its lanes. Most often a patch is one pixel; a
// stride-s transposed convolution then has s * s phases. A patch of several pixels fills the lanes
// of a vector where there are few channels, and a linear map into [height, width, channels] is one
// input pixel with a patch of all output pixels. fastgan/engine/native/chain.py makes the layers.
//
// Images lie pixel by pixel (NHWC), with a border of zeros as wide as the next layer's taps reach,
// so that no loop asks where an image ends. Elements are floats, or bfloat16 as its upper half.
#pragma once

#include <stdint.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../memory.h"
#include "../workers.h"

namespace fastgan {

enum class After { kNone, kRelu, kLeakyRelu, kTanh, kSigmoid };

// Images [height, width, channels] with borders, in elements.
struct Images {
  int64_t height, width, channels;
  int64_t top = 0, left = 0, bottom = 0, right = 0;
  int64_t pixel = 0;  // from one to the next: channels, and zeros to a multiple of what is packed

  int64_t row() const { return (left + width + right) * pixel; }
  int64_t size() const { return (top + height + bottom) * row(); }
  int64_t at(int64_t y, int64_t x) const { return (top + y) * row() + (left + x) * pixel; }
};

// The pixels (y, x) of a phase read the inputs (dy, dx) + (y, x) * in_step, its taps, and make the
// patch at (out_y, out_x) + (y, x) * out_step. What of a patch lies over the edge is dropped.
struct Phase {
  const void* weights;  // [blocks][taps][in.pixel / pack][lanes of a block][pack], 64-byte aligned
  int64_t rows, columns;
  int64_t out_y, out_x;
  std::vector<std::pair<int64_t, int64_t>> taps;  // (dy, dx)
  std::vector<int64_t> offsets;                   // of the taps, in elements; made by Program
  bool whole = false;                             // no patch reaches over the edge; made by Program
  bool sparse = false;                            // whether weights of -0 are none
};

struct Layer {
  Images in, out;
  bool planar;  // the output is [channels, height, width]
  After after;
  float slope;        // of kLeakyRelu
  const float* bias;  // [blocks * lanes of a block], or null
  int64_t vectors;    // to a block of lanes: 1 or 2
  int64_t in_step_y, in_step_x, out_step_y, out_step_x, patch_height, patch_width;
  std::vector<Phase> phases;
  bool last = false;  // writes floats; made by Program

  int64_t lanes() const { return patch_height * patch_width * out.channels; }
};

// Where the last layer writes: floats, or bytes [images, height, width, channels] of
// (value - low) * scale, rounded to even and clamped, 0 for a NaN.
struct Output {
  float* floats;
  uint8_t* bytes;
  float low, scale;
};

// Tiles first .. last - 1 of one block of lanes of a phase; a tile is up to `rows` of the pixels of
// all images, taken in order.
struct Part {
  const Layer* layer;
  const Phase* phase;
  const void* in;
  void* out;
  int64_t images, block, first, last;
  const Output* bytes;           // what the last layer's bytes are made by; null for floats
  std::atomic<bool>* nonfinite;  // set where the output has a NaN or Inf; or null
};

// One instruction set's code.
struct DirectPath {
  const char* name;
  int64_t width;         // floats to a vector
  int64_t rows;          // most pixels to a tile
  int64_t pack;          // elements to a lane: 1 of fp32, 2 of bf16
  bool (*runs_here)();
  void (*run)(const Part& part);

  int64_t element() const { return 4 / pack; }  // bytes
};

extern const DirectPath direct_avx2, direct_avx2_bf16, direct_avx512, direct_avx512_bf16;

// The paths that run on this processor, best first.
const std::vector<const DirectPath*>& direct_paths();

class Program {
 public:
  // Throws std::invalid_argument for layers that do not fit together, or an unknown path.
  Program(int64_t images, std::vector<Layer> layers, const std::string& path);

  // The memory of a run on up to so many threads, made once and used again.
  struct Room {
    Room(int64_t bytes, int64_t threads) : memory(bytes), threads(threads) {}
    Block memory;  // of all images, then of each thread
    Pace pace;
    int64_t threads;
  };
  std::unique_ptr<Room> room(int64_t threads) const;
  int64_t bytes(int64_t threads) const { return workspace_ + threads * scratch_; }  // of its memory

  // Reads `in`, [images, channels, height, width], and writes all of the output. Says whether that
  // has a NaN or Inf, in bf16; in fp32 nobody looks. Nothing is allocated.
  bool run(const float* in, const Output& out, Room& room) const;

  // The same in a room of its own; from any thread.
  bool run(const float* in, const Output& out, int64_t threads);

  const Images& input() const { return layers_.front().in; }
  const Images& output() const { return layers_.back().out; }

 private:
  // How the items of a layer divide one of its phases: by blocks of lanes, then by tiles.
  struct Split {
    int64_t blocks, tiles, blocks_each, tiles_each, first_item;
  };
  struct Run;

  void check();
  void aim(Run& run, const Layer& layer, int64_t image, Part& part) const;
  void split(const Layer& layer);
  void load(const Run& run, int64_t image) const;
  void part_of_layer(Run& run, int64_t layer, int64_t item) const;
  void rest_of_image(Run& run, int64_t image) const;
  int64_t bytes(const Images& images) const { return images.size() * path_->element(); }

  const int64_t images_;
  const DirectPath* path_;
  std::vector<Layer> layers_;
  bool loads_;  // the input is copied first: into borders, into bf16, or out of planes
  std::vector<std::vector<Split>> splits_;  // of each layer's phases
  // What goes into a layer, for all images; and within the scratch of an image, from rest_ on.
  std::vector<int64_t> offsets_, scratch_offsets_;
  // Stages of workers.h: loading, then layer by layer; or from layer rest_ on image by image.
  int64_t rest_;
  std::vector<int64_t> by_layer_, by_image_;
  int64_t workspace_ = 0, scratch_ = 0;  // bytes of all images, and of a thread's one
  Spares<Room> rooms_;
};

}  // namespace fastgan
