// The Python module fastgan._native: latents and products on the CPU, frames in shared memory.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "col2im.h"
#include "direct_bindings.h"
#include "frames.h"
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

// Pointers instead of arrays: NumPy has no bfloat16. The caller, fastgan/backends/onednn.py, owns
// the tensors and vouches for their sizes; what would loop or overrun by itself is refused here.
void add_columns(uintptr_t columns, uintptr_t out, uintptr_t bias, bool bfloat16, int activation,
                 float slope, const std::vector<int64_t>& sizes, int64_t threads) {
  if (sizes.size() != 12 || columns == 0 || out == 0 || activation < 0 || activation > 2) {
    throw py::value_error("col2im: needs 12 sizes, two buffers and a known activation");
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] < (i == 8 || i == 9 ? 0 : 1)) throw py::value_error("col2im: a size below 1");
  }
  const fastgan::Col2im job = {reinterpret_cast<const void*>(columns),
                               reinterpret_cast<void*>(out),
                               reinterpret_cast<const float*>(bias),
                               bfloat16 ? fastgan::kBFloat16 : fastgan::kFloat32,
                               static_cast<fastgan::Activation>(activation),
                               slope,
                               sizes[0],
                               sizes[1],
                               sizes[2],
                               sizes[3],
                               sizes[4],
                               sizes[5],
                               sizes[6],
                               sizes[7],
                               sizes[8],
                               sizes[9],
                               sizes[10],
                               sizes[11]};
  const int64_t meet = ((sizes[4] - 1) / sizes[6] + 1) * ((sizes[5] - 1) / sizes[7] + 1);
  if (meet > fastgan::most_taps()) throw py::value_error("col2im: too many taps for one pixel");
  py::gil_scoped_release release;
  fastgan::col2im(job, threads);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "Latent sampling on the CPU (fastgan/philox.py specifies it), col2im, chains of "
                 "layers (Program), and frames in shared memory (fastgan/realtime/ring.py).";
  module.def("fill", &fill, py::arg("kind"), py::arg("out"), py::arg("seed"), py::arg("start"),
             py::arg("stream"), py::arg("offset"), py::arg("scale"), py::arg("limit"),
             py::arg("threads") = 1, py::arg("path") = "",
             "Write samples start, start + 1, ... to out [n, size].");
  module.def("col2im", &add_columns, py::arg("columns"), py::arg("out"), py::arg("bias"),
             py::arg("bfloat16"), py::arg("activation"), py::arg("slope"), py::arg("sizes"),
             py::arg("threads") = 1,
             "Add up products of pixels and taps: sizes are images, height, width, channels, "
             "kernel, stride, pad (height then width each), out height, out width.");
  module.def("paths", &fastgan::path_names,
             "The instruction set paths that run on this processor, best first.");
  fastgan::bind_direct(module);
  fastgan::bind_frames(module);
}
