// The Python face of graph.h, `fastgan._native.runtime`. Tensors come as addresses and places:
// fastgan/engine/native/ owns them and vouches for their sizes.
#include "bindings.h"

#include <pybind11/stl.h>

#include "graph.h"
#include "operations.h"

namespace py = pybind11;

namespace fastgan {
namespace {

using Sizes = std::vector<int64_t>;
using At = std::pair<int64_t, int64_t>;  // slot and offset

Place place(const At& at) { return {at.first, at.second}; }

const float* floats(uintptr_t address) { return reinterpret_cast<const float*>(address); }

// Height, width, channels; strides of an image, a row, a pixel.
Grid grid(const Sizes& s) {
  if (s.size() != 6) throw py::value_error("a grid is three sizes and three strides");
  return {s[0], s[1], s[2], s[3], s[4], s[5]};
}

ResampleAxis axis(int64_t outputs, int64_t taps, const Sizes& at, const std::vector<float>& weights) {
  if (static_cast<int64_t>(at.size()) != outputs * taps || at.size() != weights.size()) {
    throw py::value_error("an axis needs a place and a weight for each tap");
  }
  return {outputs, taps, at, weights};
}

std::vector<float*> pointers(const std::vector<uintptr_t>& addresses) {
  std::vector<float*> found;
  for (const uintptr_t address : addresses) found.push_back(reinterpret_cast<float*>(address));
  return found;
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

  py::class_<Epilogue>(module, "Epilogue")
      .def(py::init([](Curve curve, float parameter, uintptr_t slopes, int64_t scale_image,
                       std::array<int64_t, 4> residual) {
             return Epilogue{curve,       parameter,   floats(slopes), scale_image,
                             residual[0], residual[1], residual[2],    residual[3]};
           }),
           py::kw_only(), py::arg("curve"), py::arg("parameter"), py::arg("slopes"),
           py::arg("scale_image"), py::arg("residual"));

  py::class_<Operation, std::shared_ptr<Operation>>(module, "Operation");
  py::class_<DensePhase>(module, "DensePhase")
      .def(py::init([](uintptr_t weights, std::array<int64_t, 2> pixels,
                       std::array<int64_t, 2> first_out,
                       std::vector<std::pair<int64_t, int64_t>> taps, int64_t minimal) {
             if (minimal != 0 && minimal != 2 && minimal != 4) throw py::value_error("minimal");
             return DensePhase{floats(weights), pixels[0],       pixels[1], first_out[0],
                               first_out[1],    std::move(taps), minimal};
           }),
           py::kw_only(), py::arg("weights"), py::arg("pixels"), py::arg("first_out"),
           py::arg("taps"), py::arg("minimal") = 0);
  py::class_<Dense, Operation, std::shared_ptr<Dense>>(module, "Dense")
      .def(py::init([](int64_t images, const Sizes& in, const Sizes& out, Border border,
                       int64_t vectors, std::array<int64_t, 2> in_step,
                       std::array<int64_t, 2> out_step, std::array<int64_t, 2> patch,
                       uintptr_t bias, Epilogue epilogue, std::vector<DensePhase> phases, At x,
                       At y, At residual, At scale, At weights, int64_t weights_image) {
             DenseShape shape{images,      grid(in),    grid(out),    border,   vectors,
                              in_step[0],  in_step[1],  out_step[0],  out_step[1], patch[0],
                              patch[1],    floats(bias), epilogue,    std::move(phases)};
             return std::make_shared<Dense>(std::move(shape), place(x), place(y),
                                            Beside{place(residual), place(scale)}, place(weights),
                                            weights_image);
           }),
           py::kw_only(), py::arg("images"), py::arg("input"), py::arg("output"), py::arg("border"),
           py::arg("vectors"), py::arg("in_step"), py::arg("out_step"), py::arg("patch"),
           py::arg("bias"), py::arg("epilogue"), py::arg("phases"), py::arg("x"), py::arg("y"),
           py::arg("residual"), py::arg("scale"), py::arg("weights"), py::arg("weights_image"));
  py::class_<Depthwise, Operation, std::shared_ptr<Depthwise>>(module, "Depthwise")
      .def(py::init([](int64_t images, const Sizes& in, const Sizes& out, Border border,
                       std::array<int64_t, 2> step, std::vector<std::pair<int64_t, int64_t>> taps,
                       uintptr_t weights, uintptr_t bias, Epilogue epilogue, At x, At y,
                       At residual, At scale) {
             DepthwiseShape shape{images,  grid(in),        grid(out),       step[0], step[1],
                                  std::move(taps), floats(weights), floats(bias), epilogue};
             return std::make_shared<Depthwise>(std::move(shape), border, place(x), place(y),
                                                Beside{place(residual), place(scale)});
           }),
           py::kw_only(), py::arg("images"), py::arg("input"), py::arg("output"), py::arg("border"),
           py::arg("step"), py::arg("taps"), py::arg("weights"), py::arg("bias"),
           py::arg("epilogue"), py::arg("x"), py::arg("y"), py::arg("residual"), py::arg("scale"));
  py::class_<PointwiseStep>(module, "PointwiseStep")
      .def(py::init<Code, Curve, float, int64_t, int64_t, int64_t>(), py::arg("code"),
           py::arg("curve"), py::arg("number"), py::arg("tensor"), py::arg("kept"),
           py::arg("keep"));
  py::class_<Pointwise, Operation, std::shared_ptr<Pointwise>>(module, "Pointwise")
      .def(py::init([](Sizes sizes, std::vector<Sizes> strides, std::vector<PointwiseStep> steps,
                       At y, const std::vector<At>& tensors) {
             std::vector<Place> places;
             for (const At& at : tensors) places.push_back(place(at));
             return std::make_shared<Pointwise>(std::move(sizes), std::move(strides),
                                                std::move(steps), place(y), std::move(places));
           }),
           py::kw_only(), py::arg("sizes"), py::arg("strides"), py::arg("steps"), py::arg("y"),
           py::arg("tensors"));
  py::class_<Gather, Operation, std::shared_ptr<Gather>>(module, "Gather")
      .def(py::init([](int64_t run, Sizes from, Sizes to, float fill, At x, At y) {
             return std::make_shared<Gather>(run, std::move(from), std::move(to), fill, place(x),
                                             place(y));
           }),
           py::kw_only(), py::arg("run"), py::arg("source"), py::arg("target"), py::arg("fill"),
           py::arg("x"), py::arg("y"));
  py::class_<Norm, Operation, std::shared_ptr<Norm>>(module, "Norm")
      .def(py::init([](int64_t images, int64_t groups, const Sizes& in, const Sizes& out,
                       bool centre, double epsilon, int64_t gamma_image, int64_t beta_image,
                       Epilogue epilogue, At x, At y, At gamma, At beta, At residual) {
             const NormShape shape{images,  in.at(0), in.at(1),    groups,     grid(in), grid(out),
                                   centre,  epsilon,  gamma_image, beta_image, epilogue};
             return std::make_shared<Norm>(shape, place(x), place(y), place(gamma), place(beta),
                                           place(residual));
           }),
           py::kw_only(), py::arg("images"), py::arg("groups"), py::arg("input"), py::arg("output"),
           py::arg("centre"), py::arg("epsilon"), py::arg("gamma_image"), py::arg("beta_image"),
           py::arg("epilogue"), py::arg("x"), py::arg("y"), py::arg("gamma"), py::arg("beta"),
           py::arg("residual"));
  py::class_<Rows, Operation, std::shared_ptr<Rows>>(module, "Rows")
      .def(py::init([](int64_t count, int64_t channels, int64_t in_row, int64_t out_row,
                       bool softmax, bool centre, double epsilon, Epilogue epilogue, At x, At y,
                       At gamma, At beta, At residual) {
             const RowsShape shape{count,   channels, in_row,  out_row,
                                   softmax, centre,   epsilon, epilogue};
             return std::make_shared<Rows>(shape, place(x), place(y), place(gamma), place(beta),
                                           place(residual));
           }),
           py::kw_only(), py::arg("count"), py::arg("channels"), py::arg("in_row"),
           py::arg("out_row"), py::arg("softmax"), py::arg("centre"), py::arg("epsilon"),
           py::arg("epilogue"), py::arg("x"), py::arg("y"), py::arg("gamma"), py::arg("beta"),
           py::arg("residual"));
  py::class_<ResampleAxis>(module, "ResampleAxis")
      .def(py::init(&axis), py::arg("outputs"), py::arg("taps"), py::arg("at"), py::arg("weights"));
  py::class_<Resample, Operation, std::shared_ptr<Resample>>(module, "Resample")
      .def(py::init([](int64_t images, int64_t channels, int64_t in_image,
                       std::array<int64_t, 3> out, bool maximum, ResampleAxis rows,
                       ResampleAxis columns, At x, At y) {
             ResampleShape shape{images, channels, in_image, out[0],          out[1],
                                 out[2], maximum,  std::move(rows), std::move(columns)};
             return std::make_shared<Resample>(std::move(shape), place(x), place(y));
           }),
           py::kw_only(), py::arg("images"), py::arg("channels"), py::arg("in_image"),
           py::arg("out"), py::arg("maximum"), py::arg("rows"), py::arg("columns"), py::arg("x"),
           py::arg("y"));
  py::class_<PackWeights, Operation, std::shared_ptr<PackWeights>>(module, "PackWeights")
      .def(py::init([](int64_t count, int64_t rows, int64_t columns, Sizes strides, int64_t lanes,
                       At x, At y) {
             if (strides.size() != 3) throw py::value_error("matrices have three strides");
             return std::make_shared<PackWeights>(count, rows, columns, std::move(strides), lanes,
                                                  place(x), place(y));
           }),
           py::kw_only(), py::arg("count"), py::arg("rows"), py::arg("columns"), py::arg("strides"),
           py::arg("lanes"), py::arg("x"), py::arg("y"));
  py::class_<Graph>(module, "Graph")
      .def(py::init([](const std::vector<std::shared_ptr<Operation>>& operations, int64_t arena) {
             return std::make_unique<Graph>(
                 std::vector<std::shared_ptr<const Operation>>(operations.begin(),
                                                               operations.end()),
                 arena);
           }),
           py::arg("operations"), py::arg("arena"))
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
          "Run operations first .. last - 1, in an arena of `floats` float32 that is the caller's.")
      .def_property_readonly("floats", &Graph::floats);
  module.def("path", [] {
    const Kernels& found = kernels();
    return std::make_pair(found.name, found.width);
  }, "The instruction set that it runs on here, and floats to a vector.");
}

}  // namespace fastgan
