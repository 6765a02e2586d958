#include <algorithm>

#include "reader.h"

namespace fastgan {

std::shared_ptr<const Operation> Reader::pointwise() {
  std::vector<int64_t> sizes = fields_.list(0, kMostSize, "a size out of range");
  const int64_t count = whole(0, kMostTensors);
  std::vector<std::vector<int64_t>> strides;
  int64_t elements = 1;
  for (const int64_t n : sizes) {
    elements *= n;
    require(elements <= kMostOffset, "a tensor too large");
  }
  std::vector<int64_t> last;
  for (int64_t t = 0; t <= count; ++t) {
    strides.push_back(fields_.list(0, kMostStride, "a stride out of range"));
    require(strides.back().size() == sizes.size(), "a stride too few");
    last.push_back(0);
    for (size_t d = 0; d < sizes.size() && elements > 0; ++d) {
      last.back() += (sizes[d] - 1) * strides.back()[d];
      require(last.back() <= kMostOffset, "a tensor too large");
    }
  }
  const int64_t length = fields_.count(48, "a program that ends too soon");
  std::vector<PointwiseStep> steps;
  bool kept[kMostKept] = {};
  for (int64_t i = 0; i < length; ++i) {
    PointwiseStep step{};
    step.code = static_cast<Code>(whole(0, static_cast<int64_t>(Code::kCurve)));
    step.curve = curve();
    step.number = fields_.real();
    step.tensor = whole(-1, count - 1);
    step.kept = whole(-1, kMostKept - 1);
    step.keep = whole(-1, kMostKept - 1);
    require(step.kept < 0 || kept[step.kept], "a value that was not kept");
    if (step.keep >= 0) kept[step.keep] = true;
    steps.push_back(step);
  }
  require(!steps.empty() && steps[0].code == Code::kLoad, "a program that begins with nothing");
  Place y = place();
  std::vector<Place> tensors;
  for (int64_t t = 0; t < count; ++t) {
    tensors.push_back(place());
    if (elements > 0) read(tensors.back(), last[t + 1]);
  }
  if (elements > 0) write(y, last[0], elements);
  return std::make_shared<Pointwise>(std::move(sizes), std::move(strides), std::move(steps), y,
                                     std::move(tensors));
}

std::shared_ptr<const Operation> Reader::gather() {
  const int64_t run = size();
  std::vector<int64_t> from = fields_.list(-1, kMostOffset, "an element out of range");
  std::vector<int64_t> to = fields_.list(0, kMostOffset, "an element out of range");
  const float fill = fields_.real();
  Place x = place(), y = place();
  require(from.size() == to.size(), "elements that go nowhere");
  int64_t last_from = -1, last_to = -1;
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[i] >= 0) last_from = std::max(last_from, from[i] + run - 1);
    last_to = std::max(last_to, to[i] + run - 1);
  }
  if (last_from >= 0) read(x, last_from);
  if (last_to >= 0) write(y, last_to, static_cast<int64_t>(from.size()) * run);
  return std::make_shared<Gather>(run, std::move(from), std::move(to), fill, x, y);
}

std::shared_ptr<const Operation> Reader::take() {
  const int64_t count = size(), rows = whole(1, 1 << 24), run = size();
  const int64_t step = stride(), to = stride();
  Place table = place(), x = place(), y = place();
  read(table, (rows - 1) * step + run - 1);
  read(x, count - 1);
  write(y, (count - 1) * to + run - 1, count * run);
  return std::make_shared<Take>(count, rows, run, step, to, table, x, y);
}

ResampleAxis Reader::resample_axis(int64_t* last) {
  ResampleAxis axis{};
  axis.outputs = whole(1, kMostPixels);
  axis.taps = whole(1, kMostPixels);
  axis.at = fields_.list(0, kMostOffset, "a pixel out of range");
  axis.weights = fields_.reals("a weight too few");
  require(axis.at.size() == axis.weights.size() &&
              static_cast<int64_t>(axis.at.size()) == axis.outputs * axis.taps,
          "an axis without a place and a weight for each tap");
  for (const int64_t at : axis.at) *last = std::max(*last, at);
  return axis;
}

std::shared_ptr<const Operation> Reader::resample() {
  ResampleShape shape{};
  shape.images = size();
  shape.channels = size();
  shape.in_image = stride();
  shape.out_image = stride(), shape.out_row = stride(), shape.out_pixel = stride();
  shape.maximum = flag();
  int64_t row = 0, column = 0;
  shape.rows = resample_axis(&row);
  shape.columns = resample_axis(&column);
  Place x = place(), y = place();
  const int64_t height = shape.rows.outputs, width = shape.columns.outputs;
  read(x, (shape.images - 1) * shape.in_image + row + column + shape.channels - 1);
  write(y,
        (shape.images - 1) * shape.out_image + (height - 1) * shape.out_row +
            (width - 1) * shape.out_pixel + shape.channels - 1,
        count(shape.images, Grid{height, width, shape.channels, 0, 0, 0}));
  return std::make_shared<Resample>(std::move(shape), x, y);
}

std::shared_ptr<const Operation> Reader::reduce() {
  ReduceShape shape{};
  shape.fold = static_cast<Fold>(whole(0, static_cast<int64_t>(Fold::kMinimum)));
  shape.root = flag();
  shape.scale = fields_.real();
  int64_t last_in = 0, last_out = 0, elements = 1, outputs = 1;
  for (ReduceAxes* axes : {&shape.kept, &shape.gone}) {
    axes->dims = whole(1, kMostDims);
    for (int64_t d = 0; d < axes->dims; ++d) {
      axes->sizes[d] = size();
      axes->in[d] = stride();
      axes->out[d] = stride();
      last_in += (axes->sizes[d] - 1) * axes->in[d];
      elements *= axes->sizes[d];
      if (axes == &shape.kept) {
        last_out += (axes->sizes[d] - 1) * axes->out[d];
        outputs = elements;
      }
      require(elements <= kMostOffset && last_in <= kMostOffset && last_out <= kMostOffset,
              "a tensor too large");
    }
  }
  Place x = place(), y = place();
  read(x, last_in);
  write(y, last_out, outputs);
  return std::make_shared<Reduce>(shape, x, y);
}

std::shared_ptr<const Operation> Reader::dots() {
  DotsShape shape{};
  shape.count = size(), shape.rows = whole(1, kMostPixels), shape.inner = size();
  shape.columns = whole(1, kMostPixels);
  shape.a_matrix = stride(), shape.a_row = stride();
  shape.b_matrix = stride(), shape.b_column = stride();
  Place a = place(), b = place(), y = place();
  const int64_t all = count(shape.count, Grid{shape.rows, 1, shape.columns, 0, 0, 0});
  read(a, (shape.count - 1) * shape.a_matrix + (shape.rows - 1) * shape.a_row + shape.inner - 1);
  read(b, (shape.count - 1) * shape.b_matrix + (shape.columns - 1) * shape.b_column +
              shape.inner - 1);
  write(y, all - 1, all);
  return std::make_shared<Dots>(shape, a, b, y);
}

}  // namespace fastgan
