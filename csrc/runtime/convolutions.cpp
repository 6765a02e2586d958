#include <algorithm>

#include "../workers.h"
#include "operations.h"

namespace fastgan {
namespace {

// Multiply-adds to an item: a microsecond, above the cost of taking one, and little enough that no
// thread waits long for another at the end of a layer.
constexpr int64_t kItem = 1 << 17;

// Pixels whose products take as long as reading their weights does.
constexpr int64_t kFewPixels = 4;

// What a tile costs beside them.
constexpr int64_t kTile = 1 << 13;

// Multiply-adds of a row of pixels beyond which it is several tiles.
constexpr int64_t kRow = 1 << 18;

// What it takes to read a float that another thread has just written, in those of weights; and so
// many of those as stay in a core's own cache.
constexpr int64_t kFromAnother = 4, kKept = 1 << 17;

// Fewer parts than these are to be an even number, as most often the threads are.
constexpr int64_t kFewParts = 16;

// Elements that are rounded at a time; and so many, by all items together, that it takes no longer
// than threads take to wait for each other: each item rounds what it reads then.
constexpr int64_t kRound = 1 << 15, kRoundEach = 1 << 16;

// Of a Winograd phase: items that are enough for many threads, and else the blocks of one; but so
// many items there are to be at the least.
constexpr int64_t kManyItems = 32, kFewBlocks = 4, kFewItems = 4;

// Of layers of few channels: vectors that are read beyond a line's end at most; and floats of the
// lines that a thread copies.
constexpr int64_t kFewSlack = 6, kMostLines = 1 << 20;

// Of depthwise layers: pixels that are computed at a time; taps of a strip of them that is near an
// edge, each looked for by itself in the time that copying so many channels of a strip takes; and the
// floats of a copy at most.
constexpr int64_t kStrip = 8, kChannelsOfATap = 8, kMostFramed = 1 << 22;

// Floats of the lines that a thread copies of an image's channel: those of a first cache.
constexpr int64_t kPlaneLines = 1 << 13;

// How many of `outputs` pixels along an axis no tap reaches over an edge from.
int64_t inside(const Reach& reach, int64_t outputs, int64_t step) {
  const int64_t first = divide_up(std::max<int64_t>(0, reach.first), step);
  return std::max<int64_t>(0, std::min(outputs, divide_up(reach.last, step)) - first);
}

// Tiles that share each reading of a phase's weights, `floats` in all: where these stay in no
// cache, more of them than a core's own has room for.
int64_t winograd_tiles(int64_t places, int64_t rows, int64_t floats) {
  if (floats > 1 << 22) return kMostWinogradTiles / rows * rows;
  return places <= 16 ? 2 * rows : rows;
}

int64_t reflected(int64_t at, int64_t size) {
  if (at < 0) at = -at;
  if (at >= size) at = 2 * (size - 1) - at;
  return at;
}

// One part more where they are few and an odd number of them, and there are enough to divide.
int64_t evenly(int64_t all, int64_t parts) {
  return parts > 1 && parts < kFewParts && parts < all ? parts + parts % 2 : parts;
}

// How many taps follow each other in each row; 1 where rows differ.
int64_t in_a_row(const std::vector<std::pair<int64_t, int64_t>>& taps) {
  const int64_t count = static_cast<int64_t>(taps.size());
  int64_t run = 1;
  while (run < count && taps[run].first == taps[0].first) ++run;
  if (count % run != 0) return 1;
  for (int64_t t = 0; t < count; ++t) {
    const auto& first = taps[t / run * run];
    if (taps[t] != std::make_pair(first.first, first.second + t % run)) return 1;
  }
  return run;
}

}  // namespace

Reach::Reach(int64_t size, int64_t stride, Border border, int64_t first_tap, int64_t last_tap,
             int64_t most)
    : before(std::max<int64_t>(0, -first_tap)), first(-first_tap), last(size - last_tap) {
  const int64_t end = std::max(size, most + last_tap + 1);
  for (int64_t row = -before; row < end; ++row) {
    int64_t found = row;
    if (border == Border::kReflect) found = reflected(row, size);
    if (border == Border::kEdge) found = std::clamp<int64_t>(row, 0, size - 1);
    at.push_back(found < 0 || found >= size ? -1 : found * stride);
  }
}

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

Depthwise::Depthwise(DepthwiseShape shape, Border border, Place in, Place out, Beside beside,
                     std::shared_ptr<const Block> weights)
    : shape_(std::move(shape)),
      in_(in),
      out_(out),
      beside_(beside),
      weights_(std::move(weights)) {
  int64_t low_y = 0, high_y = 0, low_x = 0, high_x = 0;
  for (const auto& [dy, dx] : shape_.taps) {
    low_y = std::min(low_y, dy), high_y = std::max(high_y, dy);
    low_x = std::min(low_x, dx), high_x = std::max(high_x, dx);
  }
  const Grid &from = shape_.in, &to = shape_.out;
  const int64_t most_y = (to.height - 1) * shape_.step_y, most_x = (to.width - 1) * shape_.step_x;
  shape_.rows = Reach(from.height, from.row, border, low_y, high_y, most_y);
  shape_.columns = Reach(from.width, from.pixel, border, low_x, high_x, most_x);
  shape_.zeros.assign(from.channels, 0.0f);
  shape_.joined = in_a_row(shape_.taps);
  const int64_t row = to.width * to.channels * static_cast<int64_t>(shape_.taps.size());
  if (to.channels <= kFewChannels && shape_.step_x == 1) gather_pixels();
  if (needs_frame()) add_frame();
  const int64_t item = shape_.lines.empty() ? kItem / 2 : 2 * kItem;
  rows_each_ = std::max<int64_t>(1, item / std::max<int64_t>(1, row));
}

// Has vectors hold several pixels: kernels_few.h.
void Depthwise::gather_pixels() {
  const Kernels& k = kernels();
  const int64_t channels = shape_.out.channels, lanes = (channels == 3 ? 3 : 1) * k.width;
  std::vector<int64_t> lines;
  int64_t low = 0, high = 0;
  for (const auto& [dy, dx] : shape_.taps) {
    if (std::find(lines.begin(), lines.end(), dy) == lines.end()) lines.push_back(dy);
    low = std::min(low, dx), high = std::max(high, dx);
  }
  const int64_t span = high - low, width = (shape_.out.width + span) * channels;
  const int64_t step = divide_up(width + kFewSlack * k.width, 16) * 16;
  if (step * static_cast<int64_t>(lines.size()) > kMostLines) return;
  shape_.left = low, shape_.span = span, shape_.step = step;
  for (const auto& [dy, dx] : shape_.taps) {
    const int64_t line = std::find(lines.begin(), lines.end(), dy) - lines.begin();
    shape_.reads.emplace_back(line, (dx - low) * channels);
  }
  for (size_t t = 0; t < shape_.taps.size(); ++t) {
    for (int64_t i = 0; i < lanes; ++i) {
      shape_.pattern.push_back(shape_.weights[t * channels + i % channels]);
    }
  }
  for (int64_t i = 0; shape_.bias != nullptr && i < lanes; ++i) {
    shape_.biases.push_back(shape_.bias[i % channels]);
  }
  shape_.lines = std::move(lines);
}

// Whether it takes less to copy the input, with what lies beyond its edges, than to look for each tap
// of the strips of pixels that are near one.
bool Depthwise::needs_frame() const {
  const Grid& to = shape_.out;
  if (!shape_.lines.empty() || to.width == 1) return false;
  const int64_t strips = divide_up(to.width, kStrip), all = to.height * strips;
  const int64_t whole = std::min(strips, inside(shape_.columns, to.width, shape_.step_x) / kStrip);
  const int64_t near = all - inside(shape_.rows, to.height, shape_.step_y) * whole;
  const int64_t taps = static_cast<int64_t>(shape_.taps.size());
  return near * taps * kChannelsOfATap > all * shape_.in.channels * shape_.step_y * shape_.step_x;
}

void Depthwise::add_frame() {
  int64_t low_y = 0, high_y = 0, low_x = 0, high_x = 0;
  for (const auto& [dy, dx] : shape_.taps) {
    low_y = std::min(low_y, dy), high_y = std::max(high_y, dy);
    low_x = std::min(low_x, dx), high_x = std::max(high_x, dx);
  }
  const int64_t most_y = (shape_.out.height - 1) * shape_.step_y;
  const int64_t most_x = (divide_up(shape_.out.width, kStrip) * kStrip - 1) * shape_.step_x;
  Grid in{};
  in.height = most_y + high_y - low_y + 1, in.width = most_x + high_x - low_x + 1;
  in.channels = in.pixel = shape_.in.channels;
  in.row = in.width * in.pixel, in.image = in.height * in.row;
  const double floats = 1.0 * shape_.images * in.channels * in.height * in.width;
  if (floats > kMostFramed) return;
  framed_ = true;
  given_ = shape_.in, given_rows_ = std::move(shape_.rows);
  given_columns_ = std::move(shape_.columns);
  top_ = low_y, left_ = low_x;
  lines_each_ = std::max<int64_t>(1, kRound / in.row);
  shape_.in = in;
  for (auto& [dy, dx] : shape_.taps) dy -= low_y, dx -= low_x;
  shape_.rows = Reach(in.height, in.row, Border::kZeros, 0, high_y - low_y, most_y);
  shape_.columns = Reach(in.width, in.pixel, Border::kZeros, 0, high_x - low_x, most_x);
}

int64_t Depthwise::scratch() const { return framed_ ? shape_.images * shape_.in.image : 0; }

// Copies lines of the input, with what is beyond their ends.
void Depthwise::frame(const Memory& memory, int64_t item) const {
  const Grid &from = given_, &to = shape_.in;
  const int64_t last = std::min(shape_.images * to.height, (item + 1) * lines_each_);
  const int64_t* const rows = given_rows_.at.data() + given_rows_.before + top_;
  const int64_t* const columns = given_columns_.at.data() + given_columns_.before + left_;
  const int64_t columns_known = static_cast<int64_t>(given_columns_.at.size()) -
                                given_columns_.before - left_;
  for (int64_t line = item * lines_each_; line < last; ++line) {
    float* out = memory.scratch + line * to.row;
    const int64_t row = rows[line % to.height];
    const float* in = memory.at(in_) + line / to.height * from.image + row;
    if (row < 0) {
      std::fill_n(out, to.row, 0.0f);
      continue;
    }
    for (int64_t x = 0; x < to.width;) {
      const int64_t place = x + left_, there = from.width - place;
      if (place >= 0 && there > 0 && from.pixel == to.pixel) {
        const int64_t some = std::min(there, to.width - x);
        out = std::copy_n(in + columns[x], some * to.pixel, out);
        x += some;
        continue;
      }
      // What is read of beyond the last tap is dropped.
      const int64_t column = x < columns_known ? columns[x] : -1;
      out = column < 0 ? std::fill_n(out, to.pixel, 0.0f) : std::copy_n(in + column, to.pixel, out);
      ++x;
    }
  }
}

int64_t Depthwise::room() const {
  return static_cast<int64_t>(shape_.lines.size()) * shape_.step;
}

int64_t Depthwise::items(int64_t stage) const {
  if (stage + 1 < stages()) return divide_up(shape_.images * shape_.in.height, lines_each_);
  return divide_up(shape_.images * shape_.out.height, rows_each_);
}

void Depthwise::run(const Memory& memory, int64_t stage, int64_t item) const {
  if (stage + 1 < stages()) return frame(memory, item);
  const float* const in = framed_ ? memory.scratch : memory.at(in_);
  const int64_t height = shape_.out.height;
  const int64_t last = std::min(shape_.images * height, (item + 1) * rows_each_);
  for (int64_t row = item * rows_each_; row < last; ++row) {
    kernels().depthwise({&shape_, in, memory.at(out_), memory.at(beside_.residual),
                         memory.at(beside_.scale), row / height, row % height,
                         memory.rooms + this_thread() * memory.room});
  }
}

DepthwisePlanes::DepthwisePlanes(PlanesShape shape, Border border, Place in, Place out)
    : shape_(std::move(shape)), in_(in), out_(out), planes_(shape_.images * shape_.channels) {
  PlanesShape& s = shape_;
  s.zeros = border == Border::kZeros;
  const int64_t reach_y = (s.kernel_y - 1) * s.dilation_y, reach_x = (s.kernel_x - 1) * s.dilation_x;
  const int64_t last_y = (s.out.height - 1) * s.step_y, last_x = (s.out.width - 1) * s.step_x;
  s.rows = Reach(s.in.height, s.in.row, border, std::min<int64_t>(0, -s.pad_y), reach_y - s.pad_y,
                 last_y);
  s.columns = Reach(s.in.width, 1, border, std::min<int64_t>(0, -s.pad_x), reach_x - s.pad_x,
                    last_x);
  const int64_t width = kernels().width;
  s.copied = !s.zeros || s.step_x > 2 || s.kernel_x > kMostEdgeTaps;
  const int64_t apart = s.step_x > 2 ? s.step_x : 1;  // phases
  if (s.copied) {
    s.span = last_x + reach_x + 1;
    // A strip that is not full is computed as if it were.
    s.inside_last = divide_up(s.out.width, width) * width;
    const int64_t slack = kMostPlaneVectors * width * (s.step_x == 2 ? 2 : 1);
    s.phase = divide_up(divide_up(s.span, apart) + slack, 16) * 16;
    s.line = apart * s.phase;
  } else {
    s.inside_first = divide_up(std::max<int64_t>(0, s.pad_x), s.step_x);
    const int64_t beyond = s.in.width - reach_x + s.pad_x;  // the first place of none
    s.inside_last = std::min(s.out.width, std::max<int64_t>(0, beyond) / s.step_x);
  }
  for (int64_t k = 0; k < s.kernel_x; ++k) {
    const int64_t at = k * s.dilation_x;
    s.offsets.push_back(s.copied ? at % apart * s.phase + at / apart : at - s.pad_x);
  }
  // Rows are as many as a cache holds the copies of, or as are enough for an item, or as lie between
  // two taps.
  const int64_t row = s.out.width * s.kernel_y * s.kernel_x, enough = kItem / 2;
  const int64_t most = s.copied ? (kPlaneLines / s.line - reach_y) / s.step_y : enough / row;
  const int64_t fit = std::max<int64_t>(1, most), least = kPlaneRows * s.dilation_y;
  rows_each_ = std::min(s.out.height, std::max(fit / least * least, least));
  parts_ = divide_up(s.out.height, rows_each_);
  if (s.copied) {
    s.lines = (rows_each_ - 1) * s.step_y + reach_y + 1;
    s.read.assign(static_cast<size_t>(s.lines), 0);
    for (int64_t row = 0; row < rows_each_; ++row) {
      for (int64_t k = 0; k < s.kernel_y; ++k) s.read[row * s.step_y + k * s.dilation_y] = 1;
    }
  }
  const int64_t all = planes_ * parts_;
  const int64_t each = std::clamp<int64_t>(enough / (rows_each_ * row), 1, all);
  each_ = divide_up(all, evenly(all, divide_up(all, each)));
}

void DepthwisePlanes::run(const Memory& memory, int64_t, int64_t item) const {
  const int64_t last = std::min(planes_ * parts_, (item + 1) * each_);
  for (int64_t i = item * each_; i < last; ++i) {
    const int64_t plane = i / parts_, first = i % parts_ * rows_each_;
    kernels().planes({&shape_, memory.at(in_), memory.at(out_), plane / shape_.channels,
                      plane % shape_.channels, first,
                      std::min(shape_.out.height, first + rows_each_),
                      memory.rooms + this_thread() * memory.room});
  }
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
