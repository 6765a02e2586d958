// The numbers that a truncated normal is drawn by, the same bits everywhere.
#pragma once

#include "../latents/philox.h"

namespace fastgan {

// Of |z| <= limit, which is finite and above 0: the tail's probability, the step to 1/2, and the limit in
// single precision (fastgan/latents/__init__.py says it in decimal arithmetic).
Parameters truncation(double limit);

}  // namespace fastgan
