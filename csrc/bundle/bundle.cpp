#include "bundle.h"

namespace fastgan {
namespace {

// Small enough that the product of both fits.
constexpr int64_t kMostSize = int64_t{1} << 30, kMostFloats = int64_t{1} << 32;
constexpr size_t kMostRank = 8;

std::vector<std::string> texts(Fields& fields) {
  std::vector<std::string> found(static_cast<size_t>(fields.count(8, "names that are none")));
  for (std::string& text : found) text = fields.text("a name that is none");
  return found;
}

std::vector<Port> ports(Fields& fields) {
  std::vector<Port> found(static_cast<size_t>(fields.count(8, "ports that are none")));
  for (Port& p : found) {
    p.name = fields.text("a port without a name");
    p.kind = static_cast<PortKind>(fields.whole(0, 6, "a port of no kind"));
    p.dtype = fields.text("a port without a type");
    p.shape.resize(static_cast<size_t>(fields.count(16, "a port without a shape")));
    require(p.shape.size() <= kMostRank, "a port of too many axes");
    for (Size& size : p.shape) {
      size.length = fields.whole(-1, kMostSize, "a size out of range");
      size.name = fields.text("a size without a name");
    }
    p.distribution = static_cast<Distribution>(fields.whole(-1, 3, "no distribution"));
    p.classes = fields.whole(-1, kMostSize, "no number of classes");
    p.ranged = fields.flag("no range");
    p.low = fields.number();
    p.high = fields.number();
    require(!p.ranged || (p.high > p.low && p.high - p.low < 1e30), "a range that is none");
    p.mean = fields.reals("no mean");
    p.std = fields.reals("no deviation");
    require(p.mean.size() == p.std.size(), "a mean without a deviation");
    p.guessed = fields.flag("no flag");
    p.fill = fields.whole(-1, 1, "no fill");
    p.channels_last = fields.flag("no flag");
    p.defaulted = fields.flag("no flag");
    p.value = fields.number();
    p.stream = fields.whole(0, 0xFFFFFFFF, "no stream");
    p.rows = fields.flag("no flag");
    p.truncates = fields.flag("no flag");
  }
  return found;
}

}  // namespace

int64_t ProgramTensor::count() const {
  int64_t n = 1;
  for (const int64_t size : sizes) n *= size;
  return n;
}

bool ProgramTensor::contiguous() const {
  int64_t expected = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    if (sizes[i] != 1 && strides[i] != expected) return false;
    expected *= sizes[i];
  }
  return true;
}

Bundle::Bundle(std::unique_ptr<File> file, int64_t most_bytes)
    : file_(std::move(file)), most_bytes_(most_bytes) {
  bool model = false, weights = false;
  for (const File::Section& section : file_->sections()) {
    if (section.kind == File::kModel) {
      require(!model, "two models in one bundle");
      model = true;
      read_model(Fields(section.data, section.size));
    } else if (section.kind == File::kWeights) {
      require(!weights, "weights twice in one bundle");
      weights = true;
      read_weights(section);
    }
  }
  require(model && weights, "a bundle without a model");
  for (const File::Section& section : file_->sections()) {
    if (section.kind == File::kProgram) read_program(Fields(section.data, section.size), section);
  }
  require(!programs.empty(), "a bundle without a program");
  weights_ = std::make_unique<Weights>(1, true, most_bytes);
  weights_->behind = [this](const float* from, int64_t floats) {
    file_->rest(reinterpret_cast<const char*>(from), static_cast<uint64_t>(floats) * sizeof(float));
  };
}

void Bundle::read_model(Fields fields) {
  name = fields.text("no name");
  maker = fields.text("no maker");
  classes = texts(fields);
  inputs = ports(fields);
  outputs = ports(fields);
  require(!outputs.empty(), "a model without outputs");
  made = fields.whole(0, static_cast<int64_t>(outputs.size()) - 1, "an output that is none");
}

void Bundle::read_program(Fields fields, const File::Section& section) {
  BundleProgram found;
  found.batch = fields.whole(1, 1 << 20, "no batch");
  found.height = fields.whole(0, 1 << 20, "no height");
  found.width = fields.whole(0, 1 << 20, "no width");
  for (const bool in : {true, false}) {
    const std::vector<Port>& of = in ? inputs : outputs;
    std::vector<ProgramTensor>& to = in ? found.inputs : found.outputs;
    to.resize(static_cast<size_t>(fields.count(24, "no tensors")));
    for (ProgramTensor& tensor : to) {
      tensor.port = fields.whole(0, static_cast<int64_t>(of.size()) - 1, "a port that is none");
      tensor.sizes = fields.list(0, kMostSize, "a size out of range");
      tensor.strides = fields.list(0, kMostFloats, "a stride out of range");
      require(tensor.sizes.size() == tensor.strides.size() && tensor.sizes.size() <= kMostRank,
              "a tensor without strides");
      int64_t count = 1, last = 0;
      for (size_t i = 0; i < tensor.sizes.size(); ++i) {
        count *= tensor.sizes[i];
        require(count <= kMostFloats, "a tensor too large");
        last += tensor.sizes[i] > 0 ? (tensor.sizes[i] - 1) * tensor.strides[i] : 0;
        require(last <= kMostFloats, "a tensor too large");
      }
      // Its elements lie side by side, in some order of the axes.
      require(count == 0 || last == count - 1, "a tensor with gaps");
      require(!in || tensor.contiguous(), "an input that does not lie row by row");
      require(count * 4 <= most_bytes_, "a tensor too large for this limit of memory");
    }
  }
  bool makes = false;
  for (const ProgramTensor& tensor : found.outputs) {
    if (tensor.port != made) continue;
    makes = tensor.sizes.size() >= 1 && tensor.sizes[0] == found.batch;
  }
  require(makes, "a program that does not make its output");
  for (const ProgramTensor& tensor : found.inputs) {
    const Port& port = inputs[tensor.port];
    require(!port.rows || (!tensor.sizes.empty() && tensor.sizes[0] == found.batch),
            "an input without a row for each sample");
  }
  found.arena = fields.whole(0, kMostFloats, "no arena");
  require(found.arena * 4 <= most_bytes_, "a program too large for this limit of memory");
  found.bf16 = fields.whole(0, 3, "no flag") >= 2;
  found.size = fields.left();
  found.records = section.data + (section.size - found.size);
  programs.push_back(std::move(found));
}

void Bundle::read_weights(const File::Section& section) {
  Fields fields(section.data, section.size);
  const int64_t count = fields.count(16, "no weights");
  const int64_t size = static_cast<int64_t>(section.size);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = fields.whole(0, size, "a weight beyond the end");
    const int64_t floats = fields.whole(0, (size - at) / 4, "a weight beyond the end");
    require(reinterpret_cast<uintptr_t>(section.data + at) % 4 == 0,
            "a weight that is not aligned");
    constants.push_back({reinterpret_cast<const float*>(section.data + at), floats});
  }
}

}  // namespace fastgan
