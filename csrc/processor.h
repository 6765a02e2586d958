// Which instruction sets the code of this extension may use: what the processor has, up to the one
// that the environment variable FASTGAN_CPU names (fastgan/host/processor.py).
#pragma once

namespace fastgan {

// From the least to the most.
enum class Instructions { kPortable, kAvx2, kAvx512, kAvx512Bf16 };

// Whether this process may use them, as far as FASTGAN_CPU goes; read once.
bool allowed(Instructions instructions);

}  // namespace fastgan
