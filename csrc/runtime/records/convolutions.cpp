#include "reader.h"

namespace fastgan {

DenseRecord Reader::dense_record() {
  DenseRecord r{};
  r.product = product();
  r.most_minimal = whole(0, 4);
  r.images = size();
  r.in = grid();
  r.out = grid();
  r.border = border();
  r.epilogue = epilogue(r.out.channels);
  r.x = place();
  r.y = place();
  r.beside = {place(), place()};
  const Product& p = r.product;
  require(r.in.height == p.rows.inputs && r.in.width == p.columns.inputs &&
              r.in.channels == p.channels,
          "a layer's input is of another size than its product's");
  require(r.out.height == p.rows.outputs * p.block_height &&
              r.out.width == p.columns.outputs * p.block_width && r.out.channels == p.outputs,
          "a layer's output is of another size than its product's");
  read(r.x, reach(r.images, r.in));
  write(r.y, reach(r.images, r.out), count(r.images, r.out));
  int64_t padded = count(r.images, Grid{1, 1, r.in.channels, 0, 0, 0});
  for (const Axis* axis : {&p.rows, &p.columns}) {
    padded *= axis->inputs + reach(*axis);
    require(padded <= kMostOffset, "an image with borders too large");
  }
  beside(r.epilogue, r.beside, r.images, r.out);
  if (r.border == Border::kReflect) {
    require(r.in.height > 1 || r.in.width > 1, "an image of one pixel, reflected");
  }
  return r;
}

std::shared_ptr<const Operation> Reader::dense(bool bf16) {
  const DenseRecord r = dense_record();
  const auto [packing, rounds] = weights_.packed(r.product, r.most_minimal, bf16);
  DenseShape shape{r.images,
                   r.in,
                   r.out,
                   r.border,
                   packing->vectors,
                   packing->in_step_y,
                   packing->in_step_x,
                   packing->out_step_y,
                   packing->out_step_x,
                   packing->patch_height,
                   packing->patch_width,
                   packing->bias,
                   r.epilogue,
                   {}};
  for (const PackedPhase& phase : packing->phases) {
    require(phase.taps.size() <= kMostTaps, "too many taps");
    shape.phases.push_back({phase.weights, phase.rows, phase.columns, phase.out_y, phase.out_x,
                            phase.taps, phase.filtering, phase.signs, phase.sparse});
  }
  const Place none;
  return std::make_shared<Dense>(std::move(shape), r.x, r.y, r.beside, none, 0, packing,
                                 rounds);
}

std::shared_ptr<const Operation> Reader::matrices() {
  const int64_t images = size(), rows = whole(1, kMostPixels), inner = size(), columns = size();
  const int64_t image = stride(), row = stride();
  const bool shared = flag();
  Place x = place(), y = place(), packed = place();
  const int64_t width = kernels().width, vectors = vectors_for(columns, width);
  const int64_t matrix = divide_up(columns, vectors * width) * vectors * width * inner;
  const Grid in{1, rows, inner, image, 0, row};
  const Grid out{1, rows, columns, rows * columns, 0, columns};
  require(rows * columns <= kMostStride && matrix <= kMostStride, "a matrix too large");
  read(x, reach(images, in));
  write(y, reach(images, out), images * rows * columns);
  read(packed, (shared ? 0 : images - 1) * matrix + matrix - 1);
  DenseShape shape{images, in, out, Border::kZeros, vectors, 1,       1,
                   1,      1,  1,   1,              nullptr, Epilogue{}, {}};
  shape.phases.push_back({nullptr, 1, rows, 0, 0, {{0, 0}}, {}, nullptr, false});
  return std::make_shared<Dense>(std::move(shape), x, y, Beside{}, packed, shared ? 0 : matrix,
                                 nullptr);
}

std::shared_ptr<const Operation> Reader::pack() {
  const int64_t count = size(), rows = size(), columns = size();
  std::vector<int64_t> strides = {stride(), stride(), stride()};
  Place x = place(), y = place();
  const int64_t width = kernels().width, lanes = vectors_for(columns, width) * width;
  const int64_t matrix = divide_up(columns, lanes) * lanes;
  require(matrix * rows <= kMostStride, "a matrix too large");
  read(x, (count - 1) * strides[0] + (rows - 1) * strides[1] + (columns - 1) * strides[2]);
  write(y, count * matrix * rows - 1, count * matrix * rows);
  return std::make_shared<PackWeights>(count, rows, columns, std::move(strides), lanes, x, y);
}

std::shared_ptr<const Operation> Reader::depthwise() {
  DepthwiseShape shape{};
  shape.images = size();
  shape.in = grid();
  shape.out = grid();
  const Border edge = border();
  shape.step_y = whole(1, 1 << 12);
  shape.step_x = whole(1, 1 << 12);
  const std::vector<int64_t> numbers = fields_.list(-kMostReach, kMostReach, "a tap too far away");
  require(!numbers.empty() && numbers.size() % 2 == 0 && numbers.size() <= 2 * kMostTaps,
          "taps that are none");
  for (size_t i = 0; i < numbers.size(); i += 2) {
    shape.taps.emplace_back(numbers[i], numbers[i + 1]);
  }
  const int64_t channels = shape.out.channels, taps = static_cast<int64_t>(shape.taps.size());
  require(shape.in.channels == channels, "channels that are not as many");
  require((shape.out.height - 1) * shape.step_y <= 4 * kMostPixels &&
              (shape.out.width - 1) * shape.step_x <= 4 * kMostPixels,
          "a convolution that reaches too far");
  const float* weight = constant(place(), channels * taps - 1);
  require(weight != nullptr, "a weight that is not there");
  shape.bias = constant(place(), channels - 1);
  shape.epilogue = epilogue(channels);
  Place x = place(), y = place();
  Beside with{place(), place()};
  read(x, reach(shape.images, shape.in));
  write(y, reach(shape.images, shape.out), count(shape.images, shape.out));
  beside(shape.epilogue, with, shape.images, shape.out);
  auto weights = weights_.transposed(weight, channels, taps);
  shape.weights = weights->floats();
  return std::make_shared<Depthwise>(std::move(shape), edge, x, y, with, weights);
}

Planes Reader::planes() {
  Planes found{};
  found.height = whole(1, kMostPixels);
  found.width = whole(1, kMostPixels);
  found.image = stride(), found.channel = stride(), found.row = stride();
  return found;
}

std::shared_ptr<const Operation> Reader::depthwise_planes() {
  PlanesShape shape{};
  shape.images = size();
  const int64_t channels = shape.channels = size();
  shape.in = planes(), shape.out = planes();
  const Border edge = border();
  const auto axis = [&](int64_t outputs, int64_t& step, int64_t& kernel, int64_t& dilation,
                        int64_t& pad) {
    step = whole(1, 1 << 12), kernel = whole(1, kMostTaps), dilation = whole(1, 1 << 12);
    pad = whole(-kMostReach, kMostReach);
    const int64_t beyond = pad < 0 ? -pad : pad;
    require((outputs - 1) * step + (kernel - 1) * dilation + beyond <= kMostReach,
            "a convolution that reaches too far");
  };
  axis(shape.out.height, shape.step_y, shape.kernel_y, shape.dilation_y, shape.pad_y);
  axis(shape.out.width, shape.step_x, shape.kernel_x, shape.dilation_x, shape.pad_x);
  const int64_t taps = shape.kernel_y * shape.kernel_x;
  require(taps <= kMostTaps, "too many taps");
  require(edge != Border::kReflect || shape.in.height > 1 || shape.in.width > 1,
          "an image of one pixel, reflected");
  shape.weights = constant(place(), channels * taps - 1);
  require(shape.weights != nullptr, "a weight that is not there");
  shape.bias = constant(place(), channels - 1);
  shape.epilogue = epilogue(channels);
  Place x = place(), y = place();
  const auto last = [&](const Planes& p) {
    return (shape.images - 1) * p.image + (channels - 1) * p.channel + (p.height - 1) * p.row +
           p.width - 1;
  };
  read(x, last(shape.in));
  write(y, last(shape.out),
        count(shape.images, Grid{shape.out.height, shape.out.width, channels, 0, 0, 0}));
  return std::make_shared<DepthwisePlanes>(std::move(shape), edge, x, y);
}

}  // namespace fastgan
