// The Python face of graph.h, `fastgan._native.runtime`. Tensors come as addresses:
// fastgan/engine/native/ owns them and vouches for their sizes.
#include "bindings.h"

#include <pybind11/stl.h>

#include "../packing/layout.h"
#include "../workers.h"
#include "graph.h"
#include "operations.h"
#include "records/records.h"

namespace py = pybind11;

namespace fastgan {
namespace {

std::vector<float*> pointers(const std::vector<uintptr_t>& addresses) {
  std::vector<float*> found;
  for (const uintptr_t address : addresses) found.push_back(reinterpret_cast<float*>(address));
  return found;
}

// As fastgan/engine/native/packing.py writes them.
Axis axis(const std::array<int64_t, 8>& n) {
  return {n[0] != 0, n[1], n[2], n[3], n[4], n[5], n[6], n[7]};
}

}  // namespace

void bind_runtime(py::module_& parent) {
  py::module_ module = parent.def_submodule("runtime", "Whole plans as one call: csrc/runtime.");
  py::enum_<Curve>(module, "Curve")
      .value("none", Curve::kNone)
      .value("relu", Curve::kRelu)
      .value("leaky_relu", Curve::kLeakyRelu)
      .value("prelu", Curve::kPrelu)
      .value("tanh", Curve::kTanh)
      .value("sigmoid", Curve::kSigmoid)
      .value("elu", Curve::kElu)
      .value("silu", Curve::kSilu)
      .value("gelu", Curve::kGelu)
      .value("gelu_tanh", Curve::kGeluTanh)
      .value("mish", Curve::kMish)
      .value("hard_swish", Curve::kHardSwish)
      .value("softplus", Curve::kSoftplus)
      .value("exp", Curve::kExp)
      .value("log", Curve::kLog)
      .value("sqrt", Curve::kSqrt)
      .value("reciprocal", Curve::kReciprocal)
      .value("neg", Curve::kNeg)
      .value("abs", Curve::kAbs)
      .value("erf", Curve::kErf)
      .value("sin", Curve::kSin)
      .value("cos", Curve::kCos);
  py::enum_<Code>(module, "Code")
      .value("load", Code::kLoad)
      .value("add", Code::kAdd)
      .value("sub", Code::kSub)
      .value("rsub", Code::kRsub)
      .value("mul", Code::kMul)
      .value("div", Code::kDiv)
      .value("rdiv", Code::kRdiv)
      .value("minimum", Code::kMinimum)
      .value("maximum", Code::kMaximum)
      .value("leaky_relu", Code::kLeakyRelu)
      .value("elu", Code::kElu)
      .value("square", Code::kSquare)
      .value("curve", Code::kCurve);
  py::enum_<Border>(module, "Border")
      .value("zeros", Border::kZeros)
      .value("reflect", Border::kReflect)
      .value("edge", Border::kEdge);

  py::class_<Product>(module, "Product")
      .def(py::init([](const std::array<int64_t, 8>& rows, const std::array<int64_t, 8>& columns,
                       bool linear, bool depthwise, int64_t channels, int64_t outputs,
                       std::array<int64_t, 2> block, uintptr_t weight,
                       const std::array<int64_t, 6>& strides, uintptr_t bias,
                       const std::array<int64_t, 3>& bias_strides,
                       std::array<int64_t, 2> numbers) {
             Product p;
             p.rows = axis(rows), p.columns = axis(columns);
             p.linear = linear, p.depthwise = depthwise;
             p.channels = channels, p.outputs = outputs;
             p.block_height = block[0], p.block_width = block[1];
             p.weight = reinterpret_cast<const float*>(weight);
             p.bias = reinterpret_cast<const float*>(bias);
             std::copy(strides.begin(), strides.end(), p.strides);
             std::copy(bias_strides.begin(), bias_strides.end(), p.bias_strides);
             p.weight_number = numbers[0], p.bias_number = numbers[1];
             return p;
           }),
           py::kw_only(), py::arg("rows"), py::arg("columns"), py::arg("linear"),
           py::arg("depthwise"), py::arg("channels"), py::arg("outputs"), py::arg("block"),
           py::arg("weight"), py::arg("strides"), py::arg("bias"), py::arg("bias_strides"),
           py::arg("numbers"),
           "weight, bias: addresses, 0 where it is none, or not here; numbers: see product.h.")
      .def_property_readonly("most_taps", &most_taps,
                             "The most taps of a phase, whatever the instruction set.");
  py::class_<Packing, std::shared_ptr<Packing>>(module, "Packing");
  py::class_<Weights>(module, "Weights", "Packed weights, each as long as somebody has it.")
      .def(py::init<int64_t>(), py::arg("threads"))
      .def("bytes", &Weights::bytes, "Of all that are used by now.")
      .def(
          "pack",
          [](Weights& weights, const Product& product, int64_t most_minimal, bool bf16,
             int64_t threads) {
            py::gil_scoped_release release;
            weights.share_out(threads);
            return std::const_pointer_cast<Packing>(
                weights.packed(product, most_minimal, bf16).packing);
          },
          py::arg("product"), py::arg("most_minimal"), py::arg("bf16"), py::arg("threads"),
          "The product's weights as an operation takes them.")
      .def(
          "found",
          [](Weights& weights, const Product& product, int64_t most_minimal, bool bf16) {
            return std::const_pointer_cast<Packing>(
                weights.found(product, most_minimal, bf16).packing);
          },
          py::arg("product"), py::arg("most_minimal"), py::arg("bf16"),
          "The same if they are packed by now, of a product that has numbers; else None.");
  py::class_<Graph>(module, "Graph")
      .def(py::init([](const py::bytes& records, int64_t arena, const std::vector<int64_t>& tensors,
                       const std::vector<std::tuple<uintptr_t, int64_t, int64_t>>& constants,
                       Weights& weights) {
             const std::string_view bytes = records;
             py::gil_scoped_release release;
             Slots slots{arena, tensors, {}};
             for (const auto& [address, size, number] : constants) {
               slots.constants.push_back({reinterpret_cast<const float*>(address), size, number});
             }
             Fields fields(bytes.data(), bytes.size());
             return std::make_unique<Graph>(read_operations(fields, slots, weights), arena);
           }),
           py::kw_only(), py::arg("records"), py::arg("arena"), py::arg("tensors"),
           py::arg("constants"), py::arg("weights"),
           "Operations as records/ reads them. arena, tensors: sizes in floats; constants: "
           "(address, size, number) of each, which have to stay; address 0: of a weight that "
           "`weights` has packed.")
      .def(
          "run",
          [](Graph& graph, const std::vector<uintptr_t>& addresses, int64_t threads) {
            const std::vector<float*> tensors = pointers(addresses);
            py::gil_scoped_release release;
            graph.run(tensors, threads);
          },
          py::arg("tensors"), py::arg("threads"),
          "Run all operations on the caller's tensors: addresses of float32.")
      .def(
          "run_some",
          [](const Graph& graph, uintptr_t arena, const std::vector<uintptr_t>& addresses,
             int64_t first, int64_t last, int64_t threads) {
            const std::vector<float*> tensors = pointers(addresses);
            py::gil_scoped_release release;
            graph.run_some(reinterpret_cast<float*>(arena), tensors, first, last, threads);
          },
          py::arg("arena"), py::arg("tensors"), py::arg("first"), py::arg("last"),
          py::arg("threads"),
          "Run operations first .. last - 1, in an arena of `floats(threads)` float32 of the "
          "caller's.")
      .def("minimal", &Graph::minimal, py::arg("first"), py::arg("last"),
           "The largest tile of Winograd's among operations first .. last - 1, or 0.")
      .def("floats", &Graph::floats, py::arg("threads"));
  module.def(
      "to_bytes",
      [](uintptr_t from, uintptr_t to, int64_t images, int64_t channels, int64_t pixels, float low,
         float scale, int64_t threads) {
        py::gil_scoped_release release;
        to_bytes(reinterpret_cast<const float*>(from), reinterpret_cast<uint8_t*>(to), images,
                 channels, pixels, low, scale, threads);
      },
      py::arg("from"), py::arg("to"), py::arg("images"), py::arg("channels"), py::arg("pixels"),
      py::arg("low"), py::arg("scale"), py::arg("threads"),
      "Images [images, channels, pixels] of float32 as bytes [images, pixels, channels] of "
      "(value - low) * scale, clamped to 0 .. 255 and rounded to even; 0 of a NaN. Addresses.");
  module.def(
      "are_finite",
      [](uintptr_t numbers, int64_t n) {
        return are_finite(reinterpret_cast<const float*>(numbers), n);
      },
      py::arg("numbers"), py::arg("n"),
      "Whether none of n float32 at this address is infinite or NaN.");
  module.attr("MOST_TAPS") = kMostTaps;
  module.attr("MOST_DIMS") = kMostDims;
  module.attr("MOST_BIASES") = kMostBiases;
  module.attr("FEW_CHANNELS") = kFewChannels;
  module.def("path", [] {
    const Kernels& found = kernels();
    return std::make_pair(found.name, found.width);
  }, "The instruction set that it runs on here, and floats to a vector.");
  module.def("bf16_path", [] { return bf16_kernels().name; }, "That of products in bf16.");
  // Threads must not outlive the interpreter, whose exit unloads what they run.
  py::module_::import("atexit").attr("register")(
      py::cpp_function(&stop_workers, py::call_guard<py::gil_scoped_release>()));
}

}  // namespace fastgan
