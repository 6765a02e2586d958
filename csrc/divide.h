// How whole numbers are divided so that nothing is left over.
#pragma once

#include <stdint.h>

namespace fastgan {

// a / b, rounded up; a from 0 on, b from 1 on.
constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace fastgan
