#include <algorithm>

#include "../workers.h"
#include "convolutions.h"
#include "operations.h"

namespace fastgan {
namespace {

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

}  // namespace

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

}  // namespace fastgan
