// See direct.h: checks a chain, lays out what lies between its layers, and cuts each layer into
// items for workers.h.
#include "direct.h"

#include <algorithm>
#include <stdexcept>

#include "workers.h"

namespace fastgan {
namespace {

// Multiply-adds to an item: some 10 microseconds, far above the cost of taking one, and little
// enough that no thread waits long for another at the end of a layer.
constexpr int64_t kItem = 1 << 20;

constexpr int64_t kCacheLine = 16;  // floats

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

const DirectPath* path_named(const std::string& name) {
  for (const DirectPath* path : direct_paths()) {
    if (name.empty() || name == path->name) return path;
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
      phase.offsets.push_back(dy * layer.in.row() + dx * layer.in.channels);
    }
    const int64_t y = phase.out_y + (phase.rows - 1) * layer.out_step_y + layer.patch_height;
    const int64_t x = phase.out_x + (phase.columns - 1) * layer.out_step_x + layer.patch_width;
    phase.whole = phase.out_y >= 0 && phase.out_x >= 0 && y <= out.height && x <= out.width;
  }
}

}  // namespace

struct Program::Run {
  const Program* program;
  const float* in;
  float* out;
  float* workspace;
};

Program::Program(int64_t images, std::vector<Layer> layers, const std::string& path)
    : images_(images), path_(path_named(path)), layers_(std::move(layers)) {
  require(images > 0 && !layers_.empty(), "a program needs images and layers");
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    require(layer.in.channels > 0 && layer.out.channels > 0, "a layer needs channels");
    require(layer.vectors == 1 || layer.vectors == 2, "a block is 1 or 2 vectors");
    require(layer.patch_height > 0 && layer.patch_width > 0, "a patch needs pixels");
    require(!layer.planar || i + 1 == layers_.size(), "only the last layer is planar");
    for (const Phase& phase : layer.phases) {
      require(phase.rows > 0 && phase.columns > 0, "a phase needs pixels");
    }
    add_borders(layer);
    if (i == 0) {
      require(layer.in.size() == layer.in.height * layer.in.width * layer.in.channels,
              "the first layer's taps reach over its input's edge");
      continue;
    }
    Images& before = layers_[i - 1].out;
    require(before.height == layer.in.height && before.width == layer.in.width &&
                before.channels == layer.in.channels,
            "a layer's input is not the output of the one before");
    before = layer.in;
  }
  for (Layer& layer : layers_) {
    finish(layer);
    const int64_t block = layer.vectors * path_->width;
    std::vector<Split> splits;
    int64_t items = 0;
    for (const Phase& phase : layer.phases) {
      const int64_t products = static_cast<int64_t>(phase.taps.size()) * layer.in.channels;
      const int64_t tile = std::max<int64_t>(1, products) * block * path_->rows;
      const int64_t pixels = images_ * phase.rows * phase.columns;
      Split of;
      of.blocks = divide_up(layer.lanes(), block);
      of.tiles = divide_up(pixels, path_->rows);
      of.tiles_each = std::min(of.tiles, divide_up(kItem, tile));
      of.blocks_each = std::min(of.blocks, divide_up(kItem, tile * of.tiles_each));
      of.first_item = items;
      items += divide_up(of.blocks, of.blocks_each) * divide_up(of.tiles, of.tiles_each);
      splits.push_back(of);
    }
    splits_.push_back(std::move(splits));
    items_.push_back(items);
    offsets_.push_back(floats_);
    floats_ += divide_up(images_ * layer.out.size(), kCacheLine) * kCacheLine;
  }
  floats_ = offsets_.back();  // the last output is the caller's
}

void Program::run(const float* in, float* out, int64_t threads) {
  std::unique_ptr<Workspace> workspace = take();
  Run run = {this, in, out, workspace->data()};
  run_stages(items_, &Program::work, &run, threads);
  give(std::move(workspace));
}

void Program::work(void* context, int64_t stage, int64_t item) {
  const Run& run = *static_cast<const Run*>(context);
  const Program& program = *run.program;
  const Layer& layer = program.layers_[stage];
  const std::vector<Split>& splits = program.splits_[stage];
  size_t p = splits.size() - 1;
  while (splits[p].first_item > item) --p;
  const Split& split = splits[p];
  const int64_t parts = divide_up(split.tiles, split.tiles_each);
  const int64_t within = item - split.first_item;
  // Items that follow each other share their weights.
  const int64_t first_block = within / parts * split.blocks_each;
  const int64_t last_block = std::min(split.blocks, first_block + split.blocks_each);
  const int64_t first_tile = within % parts * split.tiles_each;
  Part part;
  part.layer = &layer;
  part.phase = &layer.phases[p];
  part.in = stage == 0 ? run.in : run.workspace + program.offsets_[stage - 1];
  const bool last = stage + 1 == static_cast<int64_t>(program.layers_.size());
  part.out = last ? run.out : run.workspace + program.offsets_[stage];
  part.images = program.images_;
  part.first = first_tile;
  part.last = std::min(split.tiles, first_tile + split.tiles_each);
  for (part.block = first_block; part.block < last_block; ++part.block) program.path_->run(part);
}

// A workspace is zero but for the pixels within the borders, which every run writes.
std::unique_ptr<Program::Workspace> Program::take() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!free_.empty()) {
      std::unique_ptr<Workspace> workspace = std::move(free_.back());
      free_.pop_back();
      return workspace;
    }
  }
  return std::make_unique<Workspace>(floats_);
}

void Program::give(std::unique_ptr<Workspace> workspace) {
  const std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back(std::move(workspace));
}

const std::vector<const DirectPath*>& direct_paths() {
  static const std::vector<const DirectPath*> found = [] {
    std::vector<const DirectPath*> all;
#if defined(__x86_64__) && defined(__GNUC__)
    for (const DirectPath* path : {&direct_avx512, &direct_avx2}) {
      if (path->runs_here()) all.push_back(path);
    }
#endif
    return all;
  }();
  return found;
}

}  // namespace fastgan
