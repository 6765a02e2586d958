// Which instruction sets the code of this extension may use: what the processor has, up to the one
// that the environment variable FASTGAN_CPU names (fastgan/host/processor.py).
#pragma once

#include <cstdint>

namespace fastgan {

// Floats to the vectors that time is estimated for, whichever there are: what is chosen by it, every
// instruction set computes in the same way.
constexpr int64_t kNominal = 8;

// From the least to the most.
enum class Instructions { kPortable, kAvx2, kAvx512, kAvx512Bf16, kAmx };

// Whether the processor has them and this process may use them; FASTGAN_CPU is read once. AMX is used
// where that names it alone: sums go in another order there, and no such processor has timed it yet.
bool has(Instructions instructions);

// Whether there are those of 64 bits (PCLMULQDQ) beside AVX2.
bool has_carryless_products();

}  // namespace fastgan
