// What bindings.cpp needs of frames.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace fastgan {

// Adds FramesError, FramesWriter and FramesReader; nothing on a system without the ring.
void bind_frames(pybind11::module_& module);

}  // namespace fastgan
