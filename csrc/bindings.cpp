// The Python module fastgan._native: latents and models on the CPU, frames in shared memory.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bundle/bindings.h"
#include "frames.h"
#include "results.h"
#include "runtime/bindings.h"
#include "latents/sampling_cpu.h"

namespace py = pybind11;

namespace {

void fill(int kind, const py::array& out, uint64_t seed, uint64_t start, uint32_t stream,
          float offset, float scale, float limit, uint64_t threads, const std::string& path) {
  if (kind < fastgan::kBits || kind > fastgan::kLastKind) {
    throw py::value_error("kind: an unknown number");
  }
  const bool right_type = kind == fastgan::kBits ? py::isinstance<py::array_t<uint32_t>>(out)
                                                 : py::isinstance<py::array_t<float>>(out);
  if (!right_type || out.ndim() != 2 || !out.writeable() || !(out.flags() & py::array::c_style)) {
    throw py::value_error("out: needs a writeable C-contiguous [n, size] array of uint32 for bits, "
                          "else float32");
  }
  if (out.size() == 0) return;
  const fastgan::Job job = {static_cast<fastgan::Kind>(kind),
                            {offset, scale, limit},
                            static_cast<float*>(const_cast<void*>(out.data())),
                            static_cast<uint64_t>(out.shape(0)),
                            static_cast<uint64_t>(out.shape(1)),
                            seed,
                            start,
                            stream};
  py::gil_scoped_release release;
  fastgan::sample(job, threads, path);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "Latent sampling on the CPU (fastgan/latents/philox.py specifies it), models "
                 "(runtime, bundle), frames in shared memory (fastgan/realtime/ring_*.py).";
  module.def("fill", &fill, py::arg("kind"), py::arg("out"), py::arg("seed"), py::arg("start"),
             py::arg("stream"), py::arg("offset"), py::arg("scale"), py::arg("limit"),
             py::arg("threads") = 1, py::arg("path") = "",
             "Write samples start, start + 1, ... to out [n, size].");
  module.def("paths", &fastgan::path_names,
             "The instruction set paths that run on this processor, best first.");
  fastgan::bind_bundle(module);
  fastgan::bind_frames(module);
  fastgan::bind_results(module);
  fastgan::bind_runtime(module);
}
