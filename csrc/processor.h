// Which instruction sets the code of this extension may use: what the processor has, up to the one
// that the environment variable FASTGAN_CPU names (fastgan/host/processor.py).
#pragma once

namespace fastgan {

// From the least to the most.
enum class Instructions { kPortable, kAvx2, kAvx512, kAvx512Bf16 };

// Whether the processor has them and this process may use them; FASTGAN_CPU is read once.
bool has(Instructions instructions);

}  // namespace fastgan
