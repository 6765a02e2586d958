#include "records.h"

#include <algorithm>

#include "kernels/kernels.h"
#include "operations.h"

namespace fastgan {
namespace {

// Larger than anything real, and small enough that sums of a few products of a size and a stride fit,
// and that of an offset and a size.
constexpr int64_t kMostSize = int64_t{1} << 28, kMostStride = int64_t{1} << 32;
constexpr int64_t kMostOffset = int64_t{1} << 34;

// Along an axis: pixels, and how far a tap may lie from its pixel.
constexpr int64_t kMostPixels = 1 << 20, kMostReach = 1 << 20;

// What the geometry of an axis may take to be found.
constexpr int64_t kMostSearch = 1 << 22;

enum class Kind {
  kDense = 1, kMatrices, kPack, kDepthwise, kPointwise, kGather, kNorm, kRows, kResample, kTake,
  kReduce, kDenseBf16, kDots, kRecurrent, kAttention, kAnyRecurrent, kDepthwisePlanes,
  kLast = kDepthwisePlanes
};

struct DenseRecord {
  Product product;
  int64_t most_minimal, images;
  Grid in, out;
  Border border;
  Epilogue epilogue;
  Place x, y;
  Beside beside;
};

class Reader {
 public:
  Reader(Fields& fields, const Slots& slots, Weights& weights, bool bf16 = false)
      : fields_(fields), slots_(slots), weights_(weights), bf16_(bf16) {}

  std::shared_ptr<const Operation> operation(Kind kind) {
    switch (kind) {
      case Kind::kDense: return dense(bf16_);
      case Kind::kDenseBf16: return dense(true);
      case Kind::kMatrices: return matrices();
      case Kind::kPack: return pack();
      case Kind::kDepthwise: return depthwise();
      case Kind::kPointwise: return pointwise();
      case Kind::kGather: return gather();
      case Kind::kNorm: return norm();
      case Kind::kRows: return rows();
      case Kind::kResample: return resample();
      case Kind::kTake: return take();
      case Kind::kReduce: return reduce();
      case Kind::kDots: return dots();
      case Kind::kRecurrent: return recurrent(false);
      case Kind::kAttention: return attention();
      case Kind::kAnyRecurrent: return recurrent(true);
      case Kind::kDepthwisePlanes: return depthwise_planes();
    }
    throw std::invalid_argument("an operation of no known kind");
  }

  Kind kind() {
    constexpr auto last = static_cast<int64_t>(Kind::kLast);
    return static_cast<Kind>(fields_.whole(1, last, "an operation of no known kind"));
  }

  DenseRecord dense_record() {
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

 private:
  // Fields.

  int64_t whole(int64_t least, int64_t most) {
    return fields_.whole(least, most, "a number out of range");
  }
  int64_t size() { return whole(1, kMostSize); }
  int64_t stride() { return whole(0, kMostStride); }
  bool flag() { return fields_.flag("a flag that is none"); }

  Place place() {
    Place found;
    found.slot = whole(Place::kNothing, Slots::kConstants + kMostSize);
    found.offset = whole(0, kMostOffset);
    if (found.slot == Place::kNothing) return found;
    require(found.slot != Place::kConstant, "a place that is none");
    slots_.size(found);
    return found;
  }

  Grid grid() {
    Grid found{};
    found.height = whole(1, kMostPixels);
    found.width = whole(1, kMostPixels);
    found.channels = size();
    found.image = stride(), found.row = stride(), found.pixel = stride();
    return found;
  }

  Border border() { return static_cast<Border>(whole(0, 2)); }

  Curve curve() { return static_cast<Curve>(whole(0, static_cast<int64_t>(Curve::kCos))); }

  Epilogue epilogue(int64_t channels) {
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

  Axis axis() {
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

  Product product() {
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

  // Places.

  // The elements of images.
  static int64_t count(int64_t images, const Grid& g) {
    int64_t all = images;
    for (const int64_t n : {g.height, g.width, g.channels}) {
      all *= n;
      require(all <= kMostOffset, "a tensor too large");
    }
    return all;
  }

  // How far its taps reach, at the most.
  static int64_t reach(const Axis& axis) {
    const int64_t step = axis.transposed ? 1 : axis.stride;
    const int64_t pad = axis.pad < 0 ? -axis.pad : axis.pad;
    return (axis.outputs - 1) * step + axis.dilation * axis.kernel + pad;
  }

  // The last element of images.
  static int64_t reach(int64_t images, const Grid& g) {
    return (images - 1) * g.image + (g.height - 1) * g.row + (g.width - 1) * g.pixel +
           g.channels - 1;
  }

  void inside(const Place& place, int64_t last) const {
    require(place.given(), "a tensor that is not there");
    require(last >= 0 && place.offset <= slots_.size(place) && last < slots_.size(place) - place.offset,
            "a tensor that reaches beyond its memory");
  }

  void read(Place& place, int64_t last) const {
    inside(place, last);
    settle(place);
  }

  void read_if_given(Place& place, int64_t last) const {
    if (place.given()) read(place, last);
  }

  // count: the elements, each of which is to have a place of its own.
  void write(const Place& place, int64_t last, int64_t count) const {
    inside(place, last);
    require(place.slot < Slots::kConstants, "a constant that is written");
    require(count >= 0 && count <= slots_.size(place), "elements that share memory");
  }

  // A constant as operations have it: its address.
  void settle(Place& place) const {
    if (place.slot < Slots::kConstants) return;
    const float* data = slots_.constants[place.slot - Slots::kConstants].data;
    require(data != nullptr, "a constant that is not there");
    data += place.offset;
    place = {Place::kConstant, static_cast<int64_t>(reinterpret_cast<intptr_t>(data))};
  }

  // number: is told which numbers they are; null where they have to be there.
  const float* constant(const Place& place, int64_t last, int64_t* number = nullptr) const {
    if (!place.given()) return nullptr;
    require(place.slot >= Slots::kConstants, "a weight that is no constant");
    inside(place, last);
    const Constant& found = slots_.constants[place.slot - Slots::kConstants];
    if (number != nullptr && place.offset == 0) *number = found.number;
    require(found.data != nullptr || (number != nullptr && *number != 0),
            "a constant that is not there");
    return found.data == nullptr ? nullptr : found.data + place.offset;
  }

  void beside(const Epilogue& e, Beside& with, int64_t images, const Grid& out) const {
    const int64_t channels = out.channels - 1;
    read_if_given(with.scale, (images - 1) * e.scale_image + channels);
    read_if_given(with.residual, (images - 1) * e.residual_image +
                                     (out.height - 1) * e.residual_row +
                                     (out.width - 1) * e.residual_pixel +
                                     channels * e.residual_channel);
  }

  // Operations.

  std::shared_ptr<const Operation> dense(bool bf16) {
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

  std::shared_ptr<const Operation> matrices() {
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

  std::shared_ptr<const Operation> pack() {
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

  std::shared_ptr<const Operation> depthwise() {
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

  Planes planes() {
    Planes found{};
    found.height = whole(1, kMostPixels);
    found.width = whole(1, kMostPixels);
    found.image = stride(), found.channel = stride(), found.row = stride();
    return found;
  }

  std::shared_ptr<const Operation> depthwise_planes() {
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

  std::shared_ptr<const Operation> pointwise() {
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

  std::shared_ptr<const Operation> gather() {
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

  std::shared_ptr<const Operation> norm() {
    NormShape shape{};
    shape.images = size();
    shape.groups = size();
    shape.in = grid();
    shape.out = grid();
    shape.pixels_high = shape.in.height, shape.pixels_wide = shape.in.width;
    shape.centre = flag();
    shape.epsilon = fields_.number();
    shape.gamma_image = stride();
    shape.beta_image = stride();
    const int64_t channels = shape.in.channels;
    shape.epilogue = epilogue(channels);
    Place x = place(), y = place(), gamma = place(), beta = place(), residual = place();
    require(channels % shape.groups == 0, "channels that do not divide into groups");
    require(shape.out.height == shape.in.height && shape.out.width == shape.in.width &&
                shape.out.channels == channels,
            "a norm of another size");
    read(x, reach(shape.images, shape.in));
    write(y, reach(shape.images, shape.out), count(shape.images, shape.out));
    read_if_given(gamma, (shape.images - 1) * shape.gamma_image + channels - 1);
    read_if_given(beta, (shape.images - 1) * shape.beta_image + channels - 1);
    Beside with{residual, {}};
    beside(shape.epilogue, with, shape.images, shape.out);
    return std::make_shared<Norm>(shape, x, y, gamma, beta, with.residual);
  }

  std::shared_ptr<const Operation> rows() {
    RowsShape shape{};
    shape.count = size();
    shape.channels = size();
    shape.in_row = stride();
    shape.out_row = stride();
    shape.softmax = flag();
    shape.centre = flag();
    shape.epsilon = fields_.number();
    shape.epilogue = epilogue(shape.channels);
    Place x = place(), y = place(), gamma = place(), beta = place(), residual = place();
    const int64_t last = shape.channels - 1;
    read(x, (shape.count - 1) * shape.in_row + last);
    write(y, (shape.count - 1) * shape.out_row + last, shape.count * shape.channels);
    read_if_given(gamma, last);
    read_if_given(beta, last);
    Beside with{residual, {}};
    beside(shape.epilogue, with, 1, Grid{shape.count, 1, shape.channels, 0, 0, 0});
    return std::make_shared<Rows>(shape, x, y, gamma, beta, with.residual);
  }

  ResampleAxis resample_axis(int64_t* last) {
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

  std::shared_ptr<const Operation> resample() {
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

  std::shared_ptr<const Operation> take() {
    const int64_t count = size(), rows = whole(1, 1 << 24), run = size();
    const int64_t step = stride(), to = stride();
    Place table = place(), x = place(), y = place();
    read(table, (rows - 1) * step + run - 1);
    read(x, count - 1);
    write(y, (count - 1) * to + run - 1, count * run);
    return std::make_shared<Take>(count, rows, run, step, to, table, x, y);
  }

  std::shared_ptr<const Operation> reduce() {
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

  std::shared_ptr<const Operation> dots() {
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

  Recurrent::Steps steps() {
    Recurrent::Steps found{};
    found.step = stride(), found.image = stride();
    return found;
  }

  // Any cell, with functions of its own, sequences of several lengths, or weights that are made.
  std::shared_ptr<const Operation> recurrent(bool any) {
    RecurrentShape shape{};
    shape.cell = static_cast<Cell>(
        whole(0, static_cast<int64_t>(any ? Cell::kGruResetFirst : Cell::kLstm)));
    const int64_t time = whole(1, kMostPixels), images = size();
    const int64_t hidden = shape.hidden = whole(1, kMostPixels);
    const int64_t gates = gates_of(shape.cell), last = hidden - 1;
    const bool backwards = flag(), lstm = shape.cell == Cell::kLstm;
    Recurrent::Tensors of{};
    of.in = steps(), of.out = steps();
    // Hidden values and memory before, and behind the last step.
    Recurrent::State* const states[] = {&of.hidden, &of.memory, &of.last_hidden, &of.last_memory};
    for (Recurrent::State* state : states) state->image = stride();
    of.weight = place(), of.bias = place(), of.peepholes = place();
    of.in.place = place(), of.out.place = place();
    for (Recurrent::State* state : states) state->place = place();
    if (any) {
      of.lengths = place();
      read_if_given(of.lengths, images - 1);
      for (GateFunction& function : shape.functions) {
        function.curve =
            static_cast<GateCurve>(whole(0, static_cast<int64_t>(GateCurve::kSoftplus)));
        function.alpha = fields_.real();
        function.beta = fields_.real();
      }
      shape.clip = fields_.real();
      shape.couples = flag();
      require(!(shape.clip < 0), "a clip below zero");
      const GateCurve first = shape.cell == Cell::kRnn ? GateCurve::kTanh : GateCurve::kSigmoid;
      shape.usual = shape.functions[0].curve == first &&
                    shape.functions[1].curve == GateCurve::kTanh &&
                    shape.functions[2].curve == GateCurve::kTanh &&
                    shape.clip == INFINITY && !shape.couples;
    }
    require(lstm || (!of.peepholes.given() && !of.memory.place.given() &&
                     !of.last_memory.place.given()),
            "a memory that is none");
    count(images, Grid{time, 1, gates * hidden, 0, 0, 0});
    count(1, Grid{gates, hidden, hidden, 0, 0, 0});
    const auto reach_of = [&](const Recurrent::Steps& steps) {
      return (time - 1) * steps.step + (images - 1) * steps.image + last;
    };
    read(of.weight, gates * hidden * hidden - 1);
    read_if_given(of.bias, gates * hidden - 1);
    read_if_given(of.peepholes, 3 * hidden - 1);
    read(of.in.place, reach_of(of.in) + (gates - 1) * hidden);
    if (of.out.place.given()) write(of.out.place, reach_of(of.out), time * images * hidden);
    for (int i = 0; i < 4; ++i) {
      const int64_t end = (images - 1) * states[i]->image + last;
      if (i < 2) {
        read_if_given(states[i]->place, end);
      } else if (states[i]->place.given()) {
        write(states[i]->place, end, images * hidden);
      }
    }
    std::shared_ptr<const Block> packed;
    if (of.weight.slot == Place::kConstant) {
      packed = weights_.recurrence(reinterpret_cast<const float*>(of.weight.offset), shape.cell,
                                   hidden);
    }
    return std::make_shared<Recurrent>(shape, packed, time, images, backwards, of);
  }

  // Strides of a batch, of rows and columns.
  Matrices matrices(const AttentionShape& shape) {
    Matrices found;
    for (int64_t d = 0; d < shape.dims; ++d) found.batch[d] = stride();
    found.row = stride(), found.column = stride();
    return found;
  }

  // The last element of a batch of matrices.
  static int64_t reach(const AttentionShape& shape, const Matrices& as, int64_t rows,
                       int64_t columns) {
    int64_t last = (rows - 1) * as.row;
    require(last <= kMostOffset, "a tensor too large");
    last += (columns - 1) * as.column;
    for (int64_t d = 0; d < shape.dims; ++d) {
      require(last <= kMostOffset, "a tensor too large");
      last += (shape.sizes[d] - 1) * as.batch[d];
    }
    return last;
  }

  std::shared_ptr<const Operation> attention() {
    AttentionShape shape{};
    const std::vector<int64_t> sizes = fields_.list(1, kMostSize, "a size out of range");
    shape.dims = static_cast<int64_t>(sizes.size());
    require(shape.dims <= kMostDims, "too many axes");
    std::copy(sizes.begin(), sizes.end(), shape.sizes);
    shape.rows = whole(1, kMostPixels), shape.inner = whole(1, kMostPixels);
    shape.keys = whole(1, kMostPixels), shape.columns = whole(1, kMostPixels);
    shape.scale = fields_.real();
    shape.zeros = flag();
    for (Matrices* as : {&shape.query, &shape.key, &shape.value, &shape.out, &shape.scales}) {
      *as = matrices(shape);
    }
    shape.biases = whole(0, kMostBiases);
    for (int64_t b = 0; b < shape.biases; ++b) shape.bias[b] = matrices(shape);
    Place query = place(), key = place(), value = place(), out = place(), scales = place();
    Place biases[kMostBiases];
    int64_t count = 1;
    const int64_t matrix = (shape.keys + 64) * (shape.inner + shape.columns + 64);  // as packed
    for (const int64_t n : sizes) {
      count *= n;
      require(count <= kMostOffset && count * shape.rows <= kMostOffset, "a tensor too large");
    }
    require(matrix <= kMostOffset && count <= kMostOffset / matrix, "a tensor too large");
    const auto take = [&](Place& from, const Matrices& as, int64_t rows, int64_t columns) {
      // So that no few numbers stand for more work than there is memory.
      require(rows * columns <= slots_.size(from), "elements that share memory");
      read(from, reach(shape, as, rows, columns));
    };
    require(query.given() && key.given() && value.given(), "a tensor that is not there");
    take(query, shape.query, shape.rows, shape.inner);
    take(key, shape.key, shape.inner, shape.keys);
    take(value, shape.value, shape.keys, shape.columns);
    read_if_given(scales, reach(shape, shape.scales, 1, 1));
    for (int64_t b = 0; b < shape.biases; ++b) {
      biases[b] = place();
      read(biases[b], reach(shape, shape.bias[b], shape.rows, shape.keys));
    }
    const int64_t outputs = shape.rows * shape.columns;
    require(outputs <= kMostOffset / count, "a tensor too large");
    write(out, reach(shape, shape.out, shape.rows, shape.columns), count * outputs);
    return std::make_shared<Attention>(shape, query, key, value, out, scales, biases);
  }

  Fields& fields_;
  const Slots& slots_;
  Weights& weights_;
  bool bf16_;  // whether products are to be in it
};

}  // namespace

int64_t Slots::size(const Place& place) const {
  if (place.slot == Place::kArena) return arena;
  const int64_t tensor = place.slot - 1, constant = place.slot - kConstants;
  if (tensor >= 0 && tensor < static_cast<int64_t>(tensors.size())) return tensors[tensor];
  if (constant >= 0 && constant < static_cast<int64_t>(constants.size())) {
    return constants[constant].size;
  }
  throw std::invalid_argument("a place that is none");
}

std::vector<std::shared_ptr<const Operation>> read_operations(Fields& fields, const Slots& slots,
                                                              Weights& weights, bool bf16) {
  Reader reader(fields, slots, weights, bf16);
  std::vector<std::shared_ptr<const Operation>> found;
  while (!fields.done()) found.push_back(reader.operation(reader.kind()));
  return found;
}

}  // namespace fastgan
