#include <algorithm>
#include <stdexcept>

#include "../processor.h"
#include "../workers.h"
#include "graph.h"
#include "operations.h"

namespace fastgan {

Pointwise::Pointwise(std::vector<int64_t> sizes, std::vector<std::vector<int64_t>> strides,
                     std::vector<PointwiseStep> steps, Place out, std::vector<Place> tensors)
    : size_(1), out_(out), tensors_(std::move(tensors)) {
  if (strides.size() != tensors_.size() + 1 || tensors_.size() > kMostTensors) {
    throw std::invalid_argument("pointwise: strides of other tensors");
  }
  for (const PointwiseStep& step : steps) {
    if (step.tensor >= static_cast<int64_t>(tensors_.size()) || step.kept >= kMostKept ||
        step.keep >= kMostKept) {
      throw std::invalid_argument("pointwise: a step's place is none");
    }
  }
  std::vector<size_t> order;
  for (size_t d = 0; d < sizes.size(); ++d) {
    size_ *= sizes[d];
    if (sizes[d] != 1) order.push_back(d);
  }
  // As the output lies, outermost first; then those joined that lie behind each other everywhere.
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return strides[0][a] > strides[0][b]; });
  if (order.empty() && !sizes.empty()) order.push_back(0);
  for (const size_t d : order) {
    bool joins = shape_.dims > 0;
    for (size_t t = 0; joins && t < strides.size(); ++t) {
      joins = shape_.strides[t][shape_.dims - 1] == strides[t][d] * sizes[d];
    }
    if (!joins && ++shape_.dims > kMostDims) throw std::invalid_argument("pointwise: dimensions");
    const int64_t at = shape_.dims - 1;
    shape_.sizes[at] = joins ? shape_.sizes[at] * sizes[d] : sizes[d];
    for (size_t t = 0; t < strides.size(); ++t) shape_.strides[t][at] = strides[t][d];
  }
  if (shape_.dims == 0) {  // one element
    shape_.dims = 1;
    shape_.sizes[0] = 1;
    for (size_t t = 0; t < strides.size(); ++t) shape_.strides[t][0] = 1;
  }
  for (size_t t = 0; t < strides.size(); ++t) {
    int64_t behind = 1;
    shape_.dense[t] = true;
    for (int64_t d = shape_.dims - 1; d >= 0; behind *= shape_.sizes[d--]) {
      shape_.dense[t] = shape_.dense[t] && shape_.strides[t][d] == behind;
    }
  }
  shape_.steps = std::move(steps);
}

void Pointwise::run(const Memory& memory, int64_t, int64_t item) const {
  PointwisePart part{&shape_, memory.at(out_), {}, item * kEach,
                     std::min(size_, (item + 1) * kEach)};
  for (size_t t = 0; t < tensors_.size(); ++t) part.tensors[t] = memory.at(tensors_[t]);
  kernels().pointwise(part);
}

int64_t Gather::each() const { return std::max<int64_t>(1, (1 << 14) / run_); }

int64_t Gather::items(int64_t) const {
  return divide_up(static_cast<int64_t>(from_.size()), each());
}

void Gather::run(const Memory& memory, int64_t, int64_t item) const {
  const float* in = memory.at(in_);
  float* out = memory.at(out_);
  const int64_t last = std::min(static_cast<int64_t>(from_.size()), (item + 1) * each());
  for (int64_t i = item * each(); i < last; ++i) {
    float* to = out + to_[i];
    if (from_[i] < 0) {
      std::fill(to, to + run_, fill_);
    } else {
      std::copy(in + from_[i], in + from_[i] + run_, to);
    }
  }
}

void Take::run(const Memory& memory, int64_t, int64_t) const {
  const float *in = memory.at(in_), *table = memory.at(table_);
  float* out = memory.at(out_);
  for (int64_t i = 0; i < count_; ++i, out += to_) {
    const float last = static_cast<float>(rows_ - 1);
    const float at = in[i] > 0 ? std::min(in[i], last) : 0;  // 0 of a NaN
    const float* row = table + static_cast<int64_t>(at) * step_;
    std::copy(row, row + run_, out);
  }
}

Resample::Resample(ResampleShape shape, Place in, Place out)
    : shape_(std::move(shape)), in_(in), out_(out) {
  const ResampleAxis& columns = shape_.columns;
  const int64_t row = columns.outputs * shape_.channels * shape_.rows.taps * columns.taps;
  // Vectors of a row's outputs as they are, and where rows are summed up first. A pixel of few
  // channels fills no vector, a row of them does.
  const int64_t span = *std::max_element(columns.at.begin(), columns.at.end()) + shape_.channels;
  const int64_t each = columns.outputs * divide_up(shape_.channels, kNominal);
  const int64_t whole = each * columns.taps * shape_.rows.taps;
  const int64_t apart = each * columns.taps + divide_up(span, kNominal) * shape_.rows.taps;
  if (!shape_.maximum && 4 * apart < 3 * whole && span <= kMostSpan) shape_.span = span;
  rows_each_ = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, row));
  if (shape_.span > 0 && shape_.channels < kernels().width &&
      shape_.out_pixel == shape_.channels) {
    join_pixels();
  }
}

void Resample::join_pixels() {
  const ResampleAxis& columns = shape_.columns;
  const int64_t width = kernels().width, taps = columns.taps, channels = shape_.channels;
  const int64_t length = columns.outputs * channels, sets = divide_up(length, width) * taps;
  std::vector<int64_t> windows(sets), places(width);
  std::vector<int32_t> lanes(sets * width);
  std::vector<float> factors(sets * width);
  for (int64_t set = 0; set < sets; ++set) {
    const int64_t first = set / taps * width, last = std::min(length, first + width);
    int64_t low = shape_.span, high = 0;
    for (int64_t i = first; i < last; ++i) {
      const int64_t tap = i / channels * taps + set % taps;
      const float weight = columns.weights[tap];
      factors[set * width + i - first] = weight;
      int64_t& place = places[i - first] = -1;
      if (is_gap(weight)) continue;
      place = columns.at[tap] + i % channels;
      low = std::min(low, place), high = std::max(high, place);
    }
    if (high - low >= width) return;  // they are too far apart for a vector
    windows[set] = std::min(low, high);
    for (int64_t i = first; i < last; ++i) {
      const int64_t place = places[i - first];
      if (place >= 0) lanes[set * width + i - first] = static_cast<int32_t>(place - low);
    }
  }
  shape_.windows = std::move(windows);
  shape_.lanes = std::move(lanes);
  shape_.factors = std::move(factors);
}

int64_t Resample::room() const {
  return shape_.span == 0 ? 0 : (divide_up(shape_.span, 16) + 1) * 16;  // a vector may reach over it
}

int64_t Resample::items(int64_t) const {
  return divide_up(shape_.images * shape_.rows.outputs, rows_each_);
}

void Resample::run(const Memory& memory, int64_t, int64_t item) const {
  const int64_t height = shape_.rows.outputs;
  const int64_t last = std::min(shape_.images * height, (item + 1) * rows_each_);
  for (int64_t row = item * rows_each_; row < last; ++row) {
    kernels().resample({&shape_, memory.at(in_), memory.at(out_), row / height, row % height,
                        memory.rooms + this_thread() * memory.room});
  }
}

Reduce::Reduce(ReduceShape shape, Place in, Place out) : shape_(shape), in_(in), out_(out) {
  int64_t inputs = 1;
  for (int64_t d = 0; d < shape_.kept.dims; ++d) count_ *= shape_.kept.sizes[d];
  for (int64_t d = 0; d < shape_.gone.dims; ++d) inputs *= shape_.gone.sizes[d];
  each_ = std::max<int64_t>(64, (1 << 14) / std::max<int64_t>(1, inputs));
}

void Reduce::run(const Memory& memory, int64_t, int64_t item) const {
  kernels().reduce({&shape_, memory.at(in_), memory.at(out_), item * each_,
                    std::min(count_, (item + 1) * each_)});
}

Dots::Dots(DotsShape shape, Place a, Place b, Place out)
    : shape_(shape), a_(a), b_(b), out_(out) {
  const int64_t matrix = shape_.rows * shape_.columns * (shape_.inner + 32);
  each_ = std::max<int64_t>(1, (1 << 15) / matrix);
}

void Dots::run(const Memory& memory, int64_t, int64_t item) const {
  kernels().dots({&shape_, memory.at(a_), memory.at(b_), memory.at(out_), item * each_,
                  std::min(shape_.count, (item + 1) * each_)});
}

void to_bytes(const float* in, uint8_t* out, int64_t images, int64_t channels, int64_t pixels,
              float low, float scale, int64_t threads) {
  constexpr int64_t kEach = 1 << 16;  // elements to an item
  if (images * channels * pixels == 0) return;
  const int64_t each = std::min(pixels, divide_up(kEach, channels)), parts = divide_up(pixels, each);
  // Small images are several to an item.
  const int64_t some = std::max<int64_t>(1, kEach / (channels * pixels));
  struct Call {
    BytesPart part;
    int64_t images, each, parts, some;
  } call{{in, out, channels, pixels, 0, 0, low, scale}, images, each, parts, some};
  const auto work = [](void* context, int64_t, int64_t item) {
    const Call& call = *static_cast<const Call*>(context);
    const int64_t first = item / call.parts * call.some;
    const int64_t last = std::min(call.images, first + call.some);
    BytesPart part = call.part;
    part.first = item % call.parts * call.each;
    part.last = std::min(part.pixels, part.first + call.each);
    for (int64_t image = first; image < last; ++image) {
      const int64_t before = image * part.channels * part.pixels;
      part.in = call.part.in + before;
      part.out = call.part.out + before;
      kernels().bytes(part);
    }
  };
  run_stages({divide_up(images, some) * parts}, work, &call, threads);
}

}  // namespace fastgan
