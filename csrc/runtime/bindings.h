#pragma once

#include <pybind11/pybind11.h>

namespace fastgan {

void bind_runtime(pybind11::module_& module);

}  // namespace fastgan
