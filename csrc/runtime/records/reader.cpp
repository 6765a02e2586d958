#include "reader.h"

namespace fastgan {

Place Reader::place() {
  Place found;
  found.slot = whole(Place::kNothing, Slots::kConstants + kMostSize);
  found.offset = whole(0, kMostOffset);
  if (found.slot == Place::kNothing) return found;
  require(found.slot != Place::kConstant, "a place that is none");
  slots_.size(found);
  return found;
}

Grid Reader::grid() {
  Grid found{};
  found.height = whole(1, kMostPixels);
  found.width = whole(1, kMostPixels);
  found.channels = size();
  found.image = stride(), found.row = stride(), found.pixel = stride();
  return found;
}

Epilogue Reader::epilogue(int64_t channels) {
  Epilogue e;
  e.curve = curve();
  e.parameter = fields_.real();
  e.slopes = constant(place(), channels - 1);
  e.scale_image = stride();
  e.residual_image = stride(), e.residual_row = stride(), e.residual_pixel = stride();
  e.residual_channel = whole(0, 1);
  require(e.curve != Curve::kPrelu || e.slopes != nullptr, "a PReLU without slopes");
  return e;
}

Axis Reader::axis() {
  Axis found;
  found.transposed = flag();
  found.inputs = whole(1, kMostPixels);
  found.outputs = whole(1, kMostPixels);
  found.kernel = whole(1, 1 << 12);
  found.stride = whole(1, 1 << 12);
  found.pad = whole(-kMostReach, kMostReach);
  found.dilation = whole(1, 1 << 12);
  found.repeats = whole(1, found.transposed ? 1 : 2);
  return found;
}

Product Reader::product() {
  Product p;
  p.rows = axis();
  p.columns = axis();
  const int64_t form = whole(0, 2);
  p.linear = form == 1, p.depthwise = form == 2;
  p.channels = size();
  p.outputs = size();
  p.block_height = whole(1, 64);
  p.block_width = whole(1, 64);
  require(!p.depthwise || p.channels == p.outputs, "a depthwise layer that is none");
  const Place weight = place();
  for (int64_t& step : p.strides) step = stride();
  const Place bias = place();
  for (int64_t& step : p.bias_strides) step = stride();
  for (const Axis* axis : {&p.rows, &p.columns}) {
    if (p.linear) {  // one pixel in, one patch out
      require(axis->transposed && axis->inputs == 1 && axis->kernel == axis->outputs &&
                  axis->stride == axis->outputs && axis->pad == 0 && axis->dilation == 1,
              "a linear map that is none");
    } else {
      const int64_t period = axis->period();
      require(period * period * axis->kernel <= kMostSearch, "a kernel or stride too large");
    }
    require(reach(*axis) <= 4 * kMostPixels, "a convolution that reaches too far");
  }
  require(p.linear || p.rows.period() * p.columns.period() <= 1 << 12, "too many phases");
  require(!p.linear || (p.block_height == 1 && p.block_width == 1), "a linear map that is none");
  const int64_t sizes[6] = {p.rows.kernel,  p.columns.kernel, p.depthwise ? 1 : p.channels,
                            p.block_height, p.block_width,    p.outputs};
  int64_t last = 0, count = 1;
  for (int i = 0; i < 6; ++i) {
    last += (sizes[i] - 1) * p.strides[i];
    count *= sizes[i];
    require(count <= kMostOffset && last <= kMostOffset, "a weight too large");
  }
  require(!p.depthwise || p.strides[2] == 0, "a depthwise layer that is none");
  p.weight = constant(weight, last, &p.weight_number);
  const bool there = p.weight != nullptr || p.weight_number != 0;
  require(there && count <= slots_.size(weight), "a weight that is not there");
  const int64_t heights = p.linear ? p.rows.outputs : p.block_height;
  const int64_t widths = p.linear ? p.columns.outputs : p.block_width;
  p.bias = constant(bias, (heights - 1) * p.bias_strides[0] + (widths - 1) * p.bias_strides[1] +
                              (p.outputs - 1) * p.bias_strides[2],
                    &p.bias_number);
  return p;
}

int64_t Reader::count(int64_t images, const Grid& g) {
  int64_t all = images;
  for (const int64_t n : {g.height, g.width, g.channels}) {
    all *= n;
    require(all <= kMostOffset, "a tensor too large");
  }
  return all;
}

void Reader::inside(const Place& place, int64_t last) const {
  require(place.given(), "a tensor that is not there");
  require(last >= 0 && place.offset <= slots_.size(place) && last < slots_.size(place) - place.offset,
          "a tensor that reaches beyond its memory");
}

void Reader::write(const Place& place, int64_t last, int64_t count) const {
  inside(place, last);
  require(place.slot < Slots::kConstants, "a constant that is written");
  require(count >= 0 && count <= slots_.size(place), "elements that share memory");
}

void Reader::settle(Place& place) const {
  if (place.slot < Slots::kConstants) return;
  const float* data = slots_.constants[place.slot - Slots::kConstants].data;
  require(data != nullptr, "a constant that is not there");
  data += place.offset;
  place = {Place::kConstant, static_cast<int64_t>(reinterpret_cast<intptr_t>(data))};
}

const float* Reader::constant(const Place& place, int64_t last, int64_t* number) const {
  if (!place.given()) return nullptr;
  require(place.slot >= Slots::kConstants, "a weight that is no constant");
  inside(place, last);
  const Constant& found = slots_.constants[place.slot - Slots::kConstants];
  if (number != nullptr && place.offset == 0) *number = found.number;
  require(found.data != nullptr || (number != nullptr && *number != 0),
          "a constant that is not there");
  return found.data == nullptr ? nullptr : found.data + place.offset;
}

void Reader::beside(const Epilogue& e, Beside& with, int64_t images, const Grid& out) const {
  const int64_t channels = out.channels - 1;
  read_if_given(with.scale, (images - 1) * e.scale_image + channels);
  read_if_given(with.residual, (images - 1) * e.residual_image +
                                   (out.height - 1) * e.residual_row +
                                   (out.width - 1) * e.residual_pixel +
                                   channels * e.residual_channel);
}

}  // namespace fastgan
