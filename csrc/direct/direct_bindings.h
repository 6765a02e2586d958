#pragma once

#include <pybind11/pybind11.h>

namespace fastgan {

void bind_direct(pybind11::module_& module);

}  // namespace fastgan
