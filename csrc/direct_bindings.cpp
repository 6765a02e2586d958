// The Python face of direct.h: `Program` in fastgan._native.
#include "direct_bindings.h"

#include <pybind11/stl.h>

#include "direct.h"
#include "workers.h"

namespace py = pybind11;

namespace fastgan {
namespace {

// Tensors come as addresses: fastgan/engine/native/chain.py owns them and vouches for their sizes.
const float* floats(uintptr_t address) { return reinterpret_cast<const float*>(address); }

Images images(const std::vector<int64_t>& sizes) {
  if (sizes.size() != 3) throw py::value_error("an image is height, width, channels");
  return {sizes[0], sizes[1], sizes[2]};
}

}  // namespace

void bind_direct(py::module_& module) {
  py::enum_<After>(module, "After")
      .value("none", After::kNone)
      .value("relu", After::kRelu)
      .value("leaky_relu", After::kLeakyRelu)
      .value("tanh", After::kTanh)
      .value("sigmoid", After::kSigmoid);
  py::class_<Phase>(module, "Phase")
      .def(py::init([](uintptr_t weights, std::array<int64_t, 2> pixels,
                       std::array<int64_t, 2> out,
                       std::vector<std::pair<int64_t, int64_t>> taps) {
             Phase phase;
             phase.weights = reinterpret_cast<const void*>(weights);
             phase.rows = pixels[0], phase.columns = pixels[1];
             phase.out_y = out[0], phase.out_x = out[1];
             phase.taps = std::move(taps);
             return phase;
           }),
           py::kw_only(), py::arg("weights"), py::arg("pixels"), py::arg("first_out"),
           py::arg("taps"));
  py::class_<Layer>(module, "Layer")
      .def(py::init([](const std::vector<int64_t>& in, const std::vector<int64_t>& out, bool planar,
                       After after, float slope, uintptr_t bias, int64_t vectors,
                       std::array<int64_t, 2> in_step, std::array<int64_t, 2> out_step,
                       std::array<int64_t, 2> patch, std::vector<Phase> phases) {
             return Layer{images(in), images(out), planar,      after,       slope,
                          floats(bias), vectors,   in_step[0],  in_step[1],  out_step[0],
                          out_step[1],  patch[0],  patch[1],    std::move(phases)};
           }),
           py::kw_only(), py::arg("input"), py::arg("output"), py::arg("planar"), py::arg("after"),
           py::arg("slope"), py::arg("bias"), py::arg("vectors"), py::arg("in_step"),
           py::arg("out_step"), py::arg("patch"), py::arg("phases"));
  py::class_<Program>(module, "Program")
      .def(py::init<int64_t, std::vector<Layer>, const std::string&>(), py::arg("images"),
           py::arg("layers"), py::arg("path"))
      .def(
          "run",
          [](Program& program, uintptr_t in, uintptr_t out, bool bytes, float low, float scale,
             int64_t threads) {
            py::gil_scoped_release release;
            const Output output = {bytes ? nullptr : reinterpret_cast<float*>(out),
                                   bytes ? reinterpret_cast<uint8_t*>(out) : nullptr, low, scale};
            return program.run(floats(in), output, threads);
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
