// The Python module fastgan._native: latents and products on the CPU, frames in shared memory.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "bundle/bindings.h"
#include "col2im.h"
#include "direct_bindings.h"
#include "frames.h"
#include "modulate.h"
#include "normalise.h"
#include "runtime/bindings.h"
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

// Pointers instead of arrays: NumPy has no bfloat16. The caller, fastgan/engine/library/onednn.py, owns
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

void modulate(uintptr_t x, uintptr_t out, uintptr_t scale, uintptr_t noise, uintptr_t bias,
              bool bfloat16, int activation, float slope, const std::vector<int64_t>& sizes,
              int64_t threads) {
  const bool known = sizes.size() == 5 && x != 0 && out != 0 && activation >= 0 && activation <= 2;
  if (!known || sizes[0] < 1 || sizes[1] < 1 || sizes[2] < 1) {
    throw py::value_error("modulate: needs 5 sizes, two buffers and a known activation");
  }
  for (int i = 3; i < 5; ++i) {
    if (sizes[i] != 1 && sizes[i] != sizes[0]) throw py::value_error("modulate: rows of some images");
  }
  const fastgan::Modulate job = {reinterpret_cast<const void*>(x),
                                 reinterpret_cast<void*>(out),
                                 reinterpret_cast<const float*>(scale),
                                 reinterpret_cast<const float*>(noise),
                                 reinterpret_cast<const float*>(bias),
                                 sizes[3] == 1,
                                 sizes[4] == 1,
                                 bfloat16 ? fastgan::kBFloat16 : fastgan::kFloat32,
                                 static_cast<fastgan::Activation>(activation),
                                 slope,
                                 sizes[0],
                                 sizes[1],
                                 sizes[2]};
  py::gil_scoped_release release;
  fastgan::modulate(job, threads);
}

void normalise(uintptr_t x, uintptr_t out, uintptr_t residual, uintptr_t gamma, uintptr_t beta,
               bool bfloat16, int activation, float slope, double epsilon,
               const std::vector<int64_t>& sizes, int64_t threads) {
  const bool known = sizes.size() == 6 && x != 0 && out != 0 && activation >= 0 && activation <= 2;
  if (!known || *std::min_element(sizes.begin(), sizes.end()) < 1 || sizes[2] % sizes[3] != 0) {
    throw py::value_error("normalise: needs 6 sizes, two buffers and a known activation");
  }
  for (int i = 4; i < 6; ++i) {
    if (sizes[i] != 1 && sizes[i] != sizes[0]) {
      throw py::value_error("normalise: rows of some images");
    }
  }
  const fastgan::Normalise job = {reinterpret_cast<const void*>(x),
                                  reinterpret_cast<void*>(out),
                                  reinterpret_cast<const void*>(residual),
                                  reinterpret_cast<const float*>(gamma),
                                  reinterpret_cast<const float*>(beta),
                                  sizes[4] == 1,
                                  sizes[5] == 1,
                                  bfloat16 ? fastgan::kBFloat16 : fastgan::kFloat32,
                                  static_cast<fastgan::Activation>(activation),
                                  slope,
                                  epsilon,
                                  sizes[0],
                                  sizes[1],
                                  sizes[2],
                                  sizes[3]};
  py::gil_scoped_release release;
  fastgan::normalise(job, threads);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "Latent sampling on the CPU (fastgan/latents/philox.py specifies it), col2im, chains of "
                 "layers (Program), and frames in shared memory (fastgan/realtime/ring_*.py).";
  module.def("fill", &fill, py::arg("kind"), py::arg("out"), py::arg("seed"), py::arg("start"),
             py::arg("stream"), py::arg("offset"), py::arg("scale"), py::arg("limit"),
             py::arg("threads") = 1, py::arg("path") = "",
             "Write samples start, start + 1, ... to out [n, size].");
  module.def("col2im", &add_columns, py::arg("columns"), py::arg("out"), py::arg("bias"),
             py::arg("bfloat16"), py::arg("activation"), py::arg("slope"), py::arg("sizes"),
             py::arg("threads") = 1,
             "Add up products of pixels and taps: sizes are images, height, width, channels, "
             "kernel, stride, pad (height then width each), out height, out width.");
  module.def("modulate", &modulate, py::arg("x"), py::arg("out"), py::arg("scale"),
             py::arg("noise"), py::arg("bias"), py::arg("bfloat16"), py::arg("activation"),
             py::arg("slope"), py::arg("sizes"), py::arg("threads") = 1,
             "Scale channels, add noise and bias, activate, in one pass: sizes are images, pixels, "
             "channels, rows of scale, rows of noise.");
  module.def("normalise", &normalise, py::arg("x"), py::arg("out"), py::arg("residual"),
             py::arg("gamma"), py::arg("beta"), py::arg("bfloat16"), py::arg("activation"),
             py::arg("slope"), py::arg("epsilon"), py::arg("sizes"), py::arg("threads") = 1,
             "A norm over space, residual and activation: sizes are images, pixels, channels, "
             "groups, rows of gamma, rows of beta.");
  module.def("paths", &fastgan::path_names,
             "The instruction set paths that run on this processor, best first.");
  fastgan::bind_bundle(module);
  fastgan::bind_direct(module);
  fastgan::bind_frames(module);
  fastgan::bind_runtime(module);
}
