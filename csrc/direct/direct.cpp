// See direct.h: checks a chain, lays out what lies between its layers, and cuts the work into items
// for workers.h.
#include "direct.h"

#include <string.h>

#include <algorithm>
#include <stdexcept>

namespace fastgan {
namespace {

// Multiply-adds to an item: some 5 microseconds, far above the cost of taking one, and little
// enough that no thread waits long for another at the end of a layer.
constexpr int64_t kItem = 1 << 18;

// The last layers, whose weights a core's second-level cache holds, run image by image where there
// are enough of them: what lies between them then stays in that cache.
constexpr int64_t kCachedWeights = 5 << 18;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

const DirectPath* path_named(const std::string& name) {
  for (const DirectPath* path : direct_paths()) {
    if (name == path->name) return path;
  }
  throw std::invalid_argument("no path '" + name + "' on this processor");
}

// Borders as wide as the taps of all pixels reach.
void add_borders(Layer& layer) {
  Images& in = layer.in;
  for (const Phase& phase : layer.phases) {
    const int64_t below = (phase.rows - 1) * layer.in_step_y;
    const int64_t right = (phase.columns - 1) * layer.in_step_x;
    for (const auto& [dy, dx] : phase.taps) {
      in.top = std::max(in.top, -dy);
      in.left = std::max(in.left, -dx);
      in.bottom = std::max(in.bottom, below + dy - in.height + 1);
      in.right = std::max(in.right, right + dx - in.width + 1);
    }
  }
}

void finish(Layer& layer) {
  const Images& out = layer.out;
  for (Phase& phase : layer.phases) {
    for (const auto& [dy, dx] : phase.taps) {
      phase.offsets.push_back(dy * layer.in.row() + dx * layer.in.pixel);
    }
    const int64_t y = phase.out_y + (phase.rows - 1) * layer.out_step_y + layer.patch_height;
    const int64_t x = phase.out_x + (phase.columns - 1) * layer.out_step_x + layer.patch_width;
    phase.whole = phase.out_y >= 0 && phase.out_x >= 0 && y <= out.height && x <= out.width;
  }
}

uint16_t to_bfloat16(float value) {  // to nearest even; a NaN stays one
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

}  // namespace

struct Program::Run {
  const Program* program;
  const float* in;
  const Output& out;
  char *workspace, *scratches;
  bool by_image;
  std::atomic<bool> nonfinite{false};
};

Program::Program(int64_t images, std::vector<Layer> layers, const std::string& path)
    : images_(images), path_(path_named(path)), layers_(std::move(layers)) {
  check();
  const Images& first = layers_.front().in;
  const bool as_it_is = first.size() == first.height * first.width * first.channels &&
                        (first.channels == 1 || first.height * first.width == 1);
  loads_ = path_->pack > 1 || !as_it_is;
  rest_ = static_cast<int64_t>(layers_.size());
  for (Layer& layer : layers_) {
    finish(layer);
    split(layer);
    offsets_.push_back(workspace_);
    workspace_ += divide_up(images_ * bytes(layer.in), 64) * 64;
  }
  while (rest_ > 0) {
    const Layer& layer = layers_[rest_ - 1];
    int64_t weights = 0;
    for (const Phase& phase : layer.phases) {
      const int64_t lanes = divide_up(layer.lanes(), path_->width) * path_->width;
      weights += static_cast<int64_t>(phase.taps.size()) * layer.in.pixel * lanes;
    }
    if (weights * path_->element() > kCachedWeights) break;
    --rest_;
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    scratch_offsets_.push_back(scratch_);
    if (static_cast<int64_t>(i) > rest_) scratch_ += divide_up(bytes(layers_[i].in), 64) * 64;
  }
  if (loads_) by_layer_.insert(by_layer_.begin(), images_);
  by_image_.assign(by_layer_.begin(), by_layer_.begin() + loads_ + rest_);
  by_image_.push_back(images_);
}

void Program::check() {
  require(images_ > 0 && !layers_.empty(), "a program needs images and layers");
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    layer.last = i + 1 == layers_.size();
    require(layer.in.channels > 0 && layer.out.channels > 0, "a layer needs channels");
    require(layer.vectors == 1 || layer.vectors == 2, "a block is 1 or 2 vectors");
    require(layer.patch_height > 0 && layer.patch_width > 0, "a patch needs pixels");
    require(layer.last || !layer.planar, "only the last layer is planar");
    require(!layer.phases.empty(), "a layer needs phases");
    for (const Phase& phase : layer.phases) {
      require(phase.rows > 0 && phase.columns > 0, "a phase needs pixels");
    }
    add_borders(layer);
    layer.in.pixel = divide_up(layer.in.channels, path_->pack) * path_->pack;
    layer.out.pixel = layer.out.channels;
    if (i == 0) continue;
    Images& before = layers_[i - 1].out;
    require(before.height == layer.in.height && before.width == layer.in.width &&
                before.channels == layer.in.channels,
            "a layer's input is not the output of the one before");
    before = layer.in;
  }
}

void Program::split(const Layer& layer) {
  const int64_t block = layer.vectors * path_->width;
  std::vector<Split> splits;
  int64_t items = 0;
  for (const Phase& phase : layer.phases) {
    const int64_t products = static_cast<int64_t>(phase.taps.size()) * layer.in.pixel / path_->pack;
    const int64_t tile = std::max<int64_t>(1, products) * block * path_->rows;
    Split of;
    of.blocks = divide_up(layer.lanes(), block);
    of.tiles = divide_up(images_ * phase.rows * phase.columns, path_->rows);
    of.tiles_each = std::min(of.tiles, divide_up(kItem, tile));
    of.blocks_each = std::min(of.blocks, divide_up(kItem, tile * of.tiles_each));
    of.first_item = items;
    items += divide_up(of.blocks, of.blocks_each) * divide_up(of.tiles, of.tiles_each);
    splits.push_back(of);
  }
  splits_.push_back(std::move(splits));
  by_layer_.push_back(items);
}

std::unique_ptr<Program::Room> Program::room(int64_t threads) const {
  threads = std::max<int64_t>(1, threads);
  return std::make_unique<Room>(bytes(threads), threads);
}

bool Program::run(const float* in, const Output& out, Room& room) const {
  // An image is one item, so there must be enough of them for all threads to end together.
  const bool enough = images_ % room.threads == 0 || images_ >= 8 * room.threads;
  const bool by_image = rest_ < static_cast<int64_t>(layers_.size()) && enough;
  char* const memory = room.memory.data();
  Run run{this, in, out, memory, memory + workspace_, by_image};
  const auto work = [](void* context, int64_t stage, int64_t item) {
    Run& run = *static_cast<Run*>(context);
    const int64_t layer = stage - run.program->loads_;
    if (layer < 0) {
      run.program->load(run, item);
    } else if (run.by_image && layer == run.program->rest_) {
      run.program->rest_of_image(run, item);
    } else {
      run.program->part_of_layer(run, layer, item);
    }
  };
  run_stages(by_image ? by_image_ : by_layer_, work, &run, room.threads, room.pace);
  return run.nonfinite;
}

bool Program::run(const float* in, const Output& out, int64_t threads) {
  std::unique_ptr<Room> mine = rooms_.take();
  if (mine == nullptr || mine->threads != std::max<int64_t>(1, threads)) mine = room(threads);
  const bool nonfinite = run(in, out, *mine);
  rooms_.give(std::move(mine));
  return nonfinite;
}

// Copies an image into the first layer's input.
void Program::load(const Run& run, int64_t image) const {
  const Images& to = layers_.front().in;
  const int64_t plane = to.height * to.width;
  const float* in = run.in + image * to.channels * plane;
  char* out = run.workspace + image * bytes(to);
  for (int64_t y = 0; y < to.height; ++y) {
    for (int64_t x = 0; x < to.width; ++x) {
      const float* from = in + y * to.width + x;
      if (path_->pack == 1) {
        float* pixel = reinterpret_cast<float*>(out) + to.at(y, x);
        for (int64_t c = 0; c < to.channels; ++c) pixel[c] = from[c * plane];
      } else {
        uint16_t* pixel = reinterpret_cast<uint16_t*>(out) + to.at(y, x);
        for (int64_t c = 0; c < to.channels; ++c) pixel[c] = to_bfloat16(from[c * plane]);
      }
    }
  }
}

// Points the last layer's part at the output, from one image on.
void Program::aim(Run& run, const Layer& layer, int64_t image, Part& part) const {
  const int64_t first = image * layer.out.size();
  const bool bytes = run.out.bytes != nullptr;
  part.out = bytes ? static_cast<void*>(run.out.bytes + first) : run.out.floats + first;
  part.bytes = bytes ? &run.out : nullptr;
  part.nonfinite = path_->pack > 1 ? &run.nonfinite : nullptr;
}

// Runs one item of a layer, on all images.
void Program::part_of_layer(Run& run, int64_t index, int64_t item) const {
  const Layer& layer = layers_[index];
  const std::vector<Split>& splits = splits_[index];
  size_t p = splits.size() - 1;
  while (splits[p].first_item > item) --p;
  const Split& split = splits[p];
  const int64_t parts = divide_up(split.tiles, split.tiles_each);
  const int64_t within = item - split.first_item;
  // Items that follow each other share their weights.
  const int64_t first_block = within / parts * split.blocks_each;
  const int64_t last_block = std::min(split.blocks, first_block + split.blocks_each);
  const int64_t first_tile = within % parts * split.tiles_each;
  const bool direct = index == 0 && !loads_;
  Part part{};
  part.layer = &layer;
  part.phase = &layer.phases[p];
  part.in = direct ? static_cast<const void*>(run.in) : run.workspace + offsets_[index];
  part.out = layer.last ? nullptr : run.workspace + offsets_[index + 1];
  if (layer.last) aim(run, layer, 0, part);
  part.images = images_;
  part.first = first_tile;
  part.last = std::min(split.tiles, first_tile + split.tiles_each);
  for (part.block = first_block; part.block < last_block; ++part.block) path_->run(part);
}

// Runs layers rest_ and later on one image.
void Program::rest_of_image(Run& run, int64_t image) const {
  char* const buffers = run.scratches + this_thread() * scratch_;
  const int64_t count = static_cast<int64_t>(layers_.size());
  Part part{};
  part.images = 1;
  for (int64_t i = rest_; i < count; ++i) {
    const Layer& layer = layers_[i];
    const Images& in = layer.in;
    if (i == 0 && !loads_) {
      part.in = run.in + image * in.size();
    } else if (i == rest_) {
      part.in = run.workspace + offsets_[i] + image * bytes(in);
    } else {
      part.in = buffers + scratch_offsets_[i];
    }
    part.layer = &layer;
    part.out = layer.last ? nullptr : buffers + scratch_offsets_[i + 1];
    if (layer.last) aim(run, layer, image, part);
    for (const Phase& phase : layer.phases) {
      part.phase = &phase;
      part.first = 0;
      part.last = divide_up(phase.rows * phase.columns, path_->rows);
      const int64_t blocks = divide_up(layer.lanes(), layer.vectors * path_->width);
      for (part.block = 0; part.block < blocks; ++part.block) path_->run(part);
    }
  }
}

const std::vector<const DirectPath*>& direct_paths() {
  static const std::vector<const DirectPath*> found = [] {
    std::vector<const DirectPath*> all;
#if defined(__x86_64__) && defined(__GNUC__)
    for (const DirectPath* path :
         {&direct_avx512_bf16, &direct_avx512, &direct_avx2, &direct_avx2_bf16}) {
      if (path->runs_here()) all.push_back(path);
    }
#endif
    return all;
  }();
  return found;
}

}  // namespace fastgan
