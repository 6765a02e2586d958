// What bindings.cpp needs of results.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace fastgan {

// Adds Result.
void bind_results(pybind11::module_& module);

}  // namespace fastgan
