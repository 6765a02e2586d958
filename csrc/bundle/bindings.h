// See bindings.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace fastgan {

void bind_bundle(pybind11::module_& parent);

}  // namespace fastgan
