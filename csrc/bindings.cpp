// The Python module fastgan._native: latent sampling on the CPU.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "sampling_cpu.h"

namespace py = pybind11;

namespace {

void fill(int kind, const py::array& out, uint64_t seed, uint64_t start, uint32_t stream,
          float offset, float scale, float limit, uint64_t threads, const std::string& path) {
  if (kind < fastgan::kBits || kind > fastgan::kHypersphere) {
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
  module.doc() = "Latent sampling on the CPU; fastgan/philox.py is its specification.";
  module.def("fill", &fill, py::arg("kind"), py::arg("out"), py::arg("seed"), py::arg("start"),
             py::arg("stream"), py::arg("offset"), py::arg("scale"), py::arg("limit"),
             py::arg("threads") = 1, py::arg("path") = "",
             "Write samples start, start + 1, ... to out [n, size].");
  module.def("paths", &fastgan::path_names,
             "The instruction set paths that run on this processor, best first.");
}
