#include <algorithm>

#include "../workers.h"
#include "convolutions.h"
#include "operations.h"

namespace fastgan {
namespace {

// Pixels whose products take as long as reading their weights does.
constexpr int64_t kFewPixels = 4;

// What a tile costs beside them.
constexpr int64_t kTile = 1 << 13;

// Multiply-adds of a row of pixels beyond which it is several tiles.
constexpr int64_t kRow = 1 << 18;

// What it takes to read a float that another thread has just written, in those of weights; and so
// many of those as stay in a core's own cache.
constexpr int64_t kFromAnother = 4, kKept = 1 << 17;

// So many elements are rounded, by all items together, in no longer than threads take to wait for each
// other: each item rounds what it reads then.
constexpr int64_t kRoundEach = 1 << 16;

// Of a Winograd phase: items that are enough for many threads, and else the blocks of one; but so
// many items there are to be at the least.
constexpr int64_t kManyItems = 32, kFewBlocks = 4, kFewItems = 4;

// Tiles that share each reading of a phase's weights, `floats` in all: where these stay in no
// cache, more of them than a core's own has room for.
int64_t winograd_tiles(int64_t places, int64_t rows, int64_t floats) {
  if (floats > 1 << 22) return kMostWinogradTiles / rows * rows;
  return places <= 16 ? 2 * rows : rows;
}

}  // namespace

Dense::Dense(DenseShape shape, Place in, Place out, Beside beside, Place weights,
             int64_t weights_image, std::shared_ptr<const Packing> packing, bool bf16)
    : shape_(std::move(shape)),
      bf16_(bf16),
      given_(shape_.in),
      in_(in),
      out_(out),
      beside_(beside),
      weights_(weights),
      packing_(std::move(packing)),
      weights_image_(weights_image),
      units_(weights_image > 0 ? shape_.images : 1) {
  const int64_t width = bf16_ ? bf16_kernels().width : kernels().width;
  const int64_t rows = bf16_ ? bf16_kernels().rows : kernels().rows;
  const int64_t block = shape_.vectors * width;
  rounded_ = bf16_ && shape_.phases[0].filtering.pixels == 0;
  if (rounded_) {
    Grid& in = shape_.in;
    in.pixel = in.channels = divide_up(in.channels, 2) * 2;
    in.row = in.width * in.pixel, in.image = in.height * in.row;
  }
  int64_t low_y = 0, high_y = 0, low_x = 0, high_x = 0, most_y = 0, most_x = 0;
  int64_t weights_in_all = 0;
  for (DensePhase& phase : shape_.phases) {
    for (const auto& [dy, dx] : phase.taps) {
      low_y = std::min(low_y, dy), high_y = std::max(high_y, dy);
      low_x = std::min(low_x, dx), high_x = std::max(high_x, dx);
      phase.offsets.push_back(dy * shape_.in.row + dx * shape_.in.pixel);
    }
    most_y = std::max(most_y, (phase.rows - 1) * shape_.in_step_y);
    most_x = std::max(most_x, (phase.columns - 1) * shape_.in_step_x);
    const int64_t y = phase.out_y + (phase.rows - 1) * shape_.out_step_y + shape_.patch_height;
    const int64_t x = phase.out_x + (phase.columns - 1) * shape_.out_step_x + shape_.patch_width;
    phase.whole = phase.out_y >= 0 && phase.out_x >= 0 && y <= shape_.out.height &&
                  x <= shape_.out.width;
    const int64_t taps = std::max<int64_t>(1, phase.taps.size());
    const int64_t reads = taps * shape_.in.channels;
    const bool together = shape_.in.pixel == shape_.in.channels && phase.columns > 1;
    // Tiles are of one row then; where it is short they are small, which many products do not bear.
    const int64_t most_joined = phase.columns < 2 * rows ? kMostJoined / 2 : kMostJoined;
    if (together && reads <= most_joined && phase.filtering.pixels == 0) {
      phase.joined = in_a_row(phase.taps);
      phase.pieces = std::min(phase.columns, divide_up(phase.columns * reads * block, kRow));
      const int64_t most = divide_up(phase.columns, phase.pieces);
      const int64_t pixels = (most - 1) * shape_.in_step_x + phase.joined;
      phase.line = divide_up(pixels * shape_.in.channels, 16) * 16;
      if (phase.joined > 1) room_ = std::max(room_, taps / phase.joined * phase.line);
    }
    Split of{};
    of.blocks = divide_up(shape_.lanes(), block);
    int64_t floats = reads * of.blocks * block;  // of weights
    if (const Filtering& as = phase.filtering; as.pixels > 0) {
      const int64_t m = as.pixels, places = as.places();
      const int64_t inputs = as.parts() * shape_.in.channels;
      most_y = std::max(most_y, divide_up(phase.rows, m) * m * as.stride);
      most_x = std::max(most_x, divide_up(phase.columns, m) * m * as.stride);
      of.tiles = shape_.images * divide_up(phase.rows, m) * divide_up(phase.columns, m);
      floats = places * inputs * of.blocks * block;
      of.parts = divide_up(of.tiles, winograd_tiles(places, rows, floats));
      // Every item transforms its inputs, so that it is to be several blocks.
      of.groups = of.parts >= kManyItems ? 1 : divide_up(of.blocks, kFewBlocks);
      while (of.groups < of.blocks && of.parts * of.groups < kFewItems) {
        of.groups = std::min(of.blocks, 2 * of.groups);
      }
      of.even_out();
      const int64_t padded = winograd_inputs(as, shape_.in.channels, width);
      const int64_t most = divide_up(of.tiles, of.parts);
      room_ = std::max(room_, places * (winograd_place(most * padded) +
                                        winograd_place(most * block)));
    } else if (phase.joined > 1) {
      const int64_t pixels = divide_up(phase.columns, phase.pieces);
      const int64_t tile = reads * block * pixels + divide_up(pixels, rows) * kTile;
      of.tiles = shape_.images / units_ * phase.rows * phase.pieces;
      of.divide(tile);
    } else {
      const int64_t pixels = shape_.images / units_ * phase.rows * phase.columns;
      if (rounded_) phase.panel = bf16_kernels().panel(pixels, taps, shape_.in.channels);
      room_ = std::max(room_, phase.panel);
      const int64_t most = phase.panel > 0 ? kMostPanelPixels : rows;
      of.tiles = phase.tiles = evenly(pixels, divide_up(pixels, most));
      // Of few pixels what takes time is to read the weights.
      const int64_t high = std::clamp<int64_t>(divide_up(pixels, of.tiles), kFewPixels, rows);
      if (pixels == 1) of.together = kBlocksOfAPixel;
      of.divide(taps * shape_.in.channels * block * high + kTile);
    }
    of.first_item = items_;
    items_ += units_ * of.groups * of.parts;
    splits_.push_back(of);
    alike_ = alike_ && of.groups == splits_[0].groups && of.parts == splits_[0].parts;
    weights_in_all += floats;
  }
  // A thread's share of a layer is to be of the pixels that it has made of the one before, unless it
  // takes longer to read all weights than what another thread has written.
  const int64_t pixels = given_.height * given_.width * given_.channels +
                         shape_.out.height * shape_.out.width * shape_.out.channels;
  const int64_t most = std::min(kKept, kFromAnother * shape_.images * pixels);
  pixels_first_ = weights_in_all <= most;
  shape_.rows = Reach(shape_.in.height, shape_.in.row, shape_.border, low_y, high_y, most_y);
  shape_.columns = Reach(shape_.in.width, shape_.in.pixel, shape_.border, low_x, high_x, most_x);
  shape_.zeros.assign(shape_.in.channels, 0.0f);
  room_ = divide_up(room_, 16) * 16;
  if (rounded_ && shape_.images * shape_.in.image * items_ > kRoundEach) {
    rows_each_ = divide_up(kRound, shape_.in.row);
    rounds_ = divide_up(shape_.images * shape_.in.height, rows_each_);
  }
}

Dense::Item Dense::find(int64_t item) const {
  size_t p = alike_ ? 0 : splits_.size() - 1;
  while (splits_[p].first_item > item) --p;
  const int64_t phases = alike_ ? static_cast<int64_t>(splits_.size()) : 1;
  const int64_t groups = splits_[p].groups, parts = splits_[p].parts;
  const int64_t each = groups * parts * phases;
  const int64_t within = item - splits_[p].first_item, unit = within / each;
  int64_t part = within % each, rest;
  if (pixels_first_) {
    rest = part % (phases * groups), part /= phases * groups;
  } else {
    rest = part / parts, part %= parts;
  }
  return {unit, p + static_cast<size_t>(rest / groups), rest % groups, part};
}

void Dense::Split::divide(int64_t tile) {
  parts = std::max<int64_t>(1, tiles / divide_up(kItem, tile));
  const int64_t some = divide_up(kItem, tile * divide_up(tiles, parts) * together);
  groups = std::max<int64_t>(1, divide_up(blocks, together) / some);
  even_out();
}

void Dense::Split::even_out() {
  if (parts * groups == 1) return;
  if (parts % 2 == 1 && groups % 2 == 1) {
    parts = evenly(tiles, parts);
    if (parts % 2 == 1) groups = evenly(divide_up(blocks, together), groups);
  }
}

int64_t Dense::Split::block(int64_t group) const {
  return std::min(blocks, group * divide_up(blocks, together) / groups * together);
}

int64_t Dense::minimal() const {
  int64_t most = 0;
  for (const DensePhase& phase : shape_.phases) most = std::max(most, phase.filtering.pixels);
  return most;
}

int64_t Dense::scratch() const { return rounds_ > 0 ? rounding() : 0; }

int64_t Dense::rounding() const {
  return rounded_ ? divide_up(shape_.images * shape_.in.image, 32) * 16 : 0;
}

void Dense::round(const Memory& memory, int64_t first, int64_t last, float* to) const {
  const Grid &from = given_, &in = shape_.in;
  const bool together = from.channels == in.pixel && from.pixel == in.pixel;
  const int64_t pixels = together ? 1 : in.width, channels = together ? in.row : from.channels;
  uint16_t* const out = reinterpret_cast<uint16_t*>(to);
  for (int64_t r = first; r < last; ++r) {
    const float* row = memory.at(in_) + r / in.height * from.image + r % in.height * from.row;
    bf16_kernels().round(row, pixels, channels, from.pixel, out + r * in.row);
  }
}

void Dense::run(const Memory& memory, int64_t stage, int64_t item) const {
  const int64_t rows = shape_.images * shape_.in.height;
  if (stage + 1 < stages()) {
    const int64_t first = item * rows_each_;
    return round(memory, first, std::min(rows, first + rows_each_), memory.scratch);
  }
  const auto [unit, p, group, tiles] = find(item);
  const Split& split = splits_[p];
  const DensePhase& phase = shape_.phases[p];
  const Epilogue& e = shape_.epilogue;
  DensePart part{};
  part.shape = &shape_;
  part.phase = &phase;
  part.weights = phase.weights;
  if (part.weights == nullptr) part.weights = memory.at(weights_) + unit * weights_image_;
  part.in = memory.at(in_) + unit * shape_.in.image;
  part.out = memory.at(out_) + unit * shape_.out.image;
  part.residual = memory.at(beside_.residual);
  if (part.residual != nullptr) part.residual += unit * e.residual_image;
  part.scale = memory.at(beside_.scale);
  if (part.scale != nullptr) part.scale += unit * e.scale_image;
  part.images = shape_.images / units_;
  part.first_block = split.block(group);
  part.last_block = split.block(group + 1);
  part.first_tile = tiles * split.tiles / split.parts;
  part.last_tile = (tiles + 1) * split.tiles / split.parts;
  part.room = memory.rooms + this_thread() * memory.room;
  if (rounded_) {
    float* const rounded = rounds_ > 0 ? memory.scratch : part.room + room_;
    if (rounds_ == 0) round(memory, 0, rows, rounded);
    part.in = rounded;
    return bf16_kernels().dense(part);
  }
  if (bf16_) return bf16_kernels().winograd(part);
  phase.filtering.pixels == 0 ? kernels().dense(part) : kernels().winograd(part);
}

PackWeights::PackWeights(int64_t count, int64_t rows, int64_t columns, std::vector<int64_t> strides,
                         int64_t lanes, Place in, Place out)
    : count_(count),
      rows_(rows),
      columns_(columns),
      strides_(std::move(strides)),
      lanes_(lanes),
      blocks_(divide_up(columns, lanes)),
      in_(in),
      out_(out) {}

void PackWeights::run(const Memory& memory, int64_t, int64_t item) const {
  const int64_t matrix = item / blocks_, first = item % blocks_ * lanes_;
  const int64_t columns = std::min(lanes_, columns_ - first), step = strides_[2];
  const float* in = memory.at(in_) + matrix * strides_[0] + first * step;
  float* out = memory.at(out_) + item * rows_ * lanes_;
  kernels().pack({in, out, rows_, columns, strides_[1], step, lanes_});
}

}  // namespace fastgan
