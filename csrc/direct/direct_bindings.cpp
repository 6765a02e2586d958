// The Python face of direct.h: `Program` in fastgan._native.
#include "direct_bindings.h"

#include <pybind11/stl.h>

#include "direct.h"
#include "../packing/packing.h"
#include "../runtime/records.h"
#include "../workers.h"

namespace py = pybind11;

namespace fastgan {
namespace {

// Tensors come as addresses: fastgan/engine/native/chain.py owns them and vouches for their sizes.
const float* floats(uintptr_t address) { return reinterpret_cast<const float*>(address); }

// As fastgan/engine/native/packing.py writes them.
Axis axis(const std::array<int64_t, 8>& n) {
  return {n[0] != 0, n[1], n[2], n[3], n[4], n[5], n[6], n[7]};
}

// A layer with the weights that it points to.
struct Kept {
  Layer layer;
  std::shared_ptr<const Packing> packing;
};

// A program with those of all its layers.
struct KeptProgram {
  std::vector<Kept> layers;
  Program program;

  static std::vector<Layer> bare(const std::vector<Kept>& layers) {
    std::vector<Layer> found;
    for (const Kept& each : layers) found.push_back(each.layer);
    return found;
  }
  KeptProgram(int64_t images, std::vector<Kept> given, const std::string& path)
      : layers(std::move(given)), program(images, bare(layers), path) {}
};

}  // namespace

void bind_direct(py::module_& module) {
  py::enum_<After>(module, "After")
      .value("none", After::kNone)
      .value("relu", After::kRelu)
      .value("leaky_relu", After::kLeakyRelu)
      .value("tanh", After::kTanh)
      .value("sigmoid", After::kSigmoid);
  py::class_<Product>(module, "Product")
      .def(py::init([](const std::array<int64_t, 8>& rows, const std::array<int64_t, 8>& columns,
                       bool linear, bool depthwise, int64_t channels, int64_t outputs,
                       std::array<int64_t, 2> block, uintptr_t weight,
                       const std::array<int64_t, 6>& strides, uintptr_t bias,
                       const std::array<int64_t, 3>& bias_strides) {
             Product p;
             p.rows = axis(rows), p.columns = axis(columns);
             p.linear = linear, p.depthwise = depthwise;
             p.channels = channels, p.outputs = outputs;
             p.block_height = block[0], p.block_width = block[1];
             p.weight = floats(weight), p.bias = floats(bias);
             std::copy(strides.begin(), strides.end(), p.strides);
             std::copy(bias_strides.begin(), bias_strides.end(), p.bias_strides);
             return p;
           }),
           py::kw_only(), py::arg("rows"), py::arg("columns"), py::arg("linear"),
           py::arg("depthwise"), py::arg("channels"), py::arg("outputs"), py::arg("block"),
           py::arg("weight"),
           py::arg("strides"), py::arg("bias"), py::arg("bias_strides"))
      .def_property_readonly("most_taps", &most_taps,
                             "The most taps of a phase, whatever the instruction set.");
  py::class_<Kept>(module, "Layer")
      .def(py::init([](const Product& product, const std::string& path, bool planar, After after,
                       float slope, int64_t threads) {
             const DirectPath* found = nullptr;
             for (const DirectPath* each : direct_paths()) {
               if (path == each->name) found = each;
             }
             if (found == nullptr) throw py::value_error("no such path on this processor");
             py::gil_scoped_release release;
             std::shared_ptr<const Packing> packing =
                 pack(product, found->width, found->pack, 0, threads);
             Kept made{layer_of(*packing), packing};
             made.layer.planar = planar;
             made.layer.after = after;
             made.layer.slope = slope;
             return made;
           }),
           py::arg("product"), py::arg("path"), py::kw_only(), py::arg("planar"),
           py::arg("after"), py::arg("slope"), py::arg("threads"),
           "A product's weights packed for a path, and what follows it.");
  py::class_<KeptProgram>(module, "Program")
      .def(py::init<int64_t, std::vector<Kept>, const std::string&>(), py::arg("images"),
           py::arg("layers"), py::arg("path"))
      .def(
          "run",
          [](KeptProgram& kept, uintptr_t in, uintptr_t out, bool bytes, float low, float scale,
             int64_t threads) {
            py::gil_scoped_release release;
            const Output output = {bytes ? nullptr : reinterpret_cast<float*>(out),
                                   bytes ? reinterpret_cast<uint8_t*>(out) : nullptr, low, scale};
            return kept.program.run(floats(in), output, threads);
          },
          py::arg("input"), py::arg("output"), py::arg("bytes"), py::arg("low"), py::arg("scale"),
          py::arg("threads"),
          "Run all layers: input is the address of contiguous float32, output that of float32 or of "
          "bytes NHWC of (value - low) * scale. In bf16, whether the output has a NaN or Inf.");
  module.def("program_paths", [] {
    std::vector<std::tuple<std::string, int64_t, int64_t>> found;
    for (const DirectPath* path : direct_paths()) {
      found.emplace_back(path->name, path->width, path->pack);
    }
    return found;
  }, "(name, floats to a vector, elements to a lane) of each instruction set that a Program runs on "
     "here, best first; elements are fp32 at 1 to a lane, bf16 at 2.");
  // Threads must not outlive the interpreter, whose exit unloads what they run.
  py::module_::import("atexit").attr("register")(
      py::cpp_function(&stop_workers, py::call_guard<py::gil_scoped_release>()));
}

}  // namespace fastgan
