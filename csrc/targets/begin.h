// From here to end.h code is compiled for FASTGAN_TARGET, and runs where the processor has what
// FASTGAN_NEEDS of processor.h names. Included once, by a file that is for one instruction set.
#include <immintrin.h>
#include <math.h>
#include <string.h>

// What the standard library has inline must not be compiled for the target: others may link to it.
#include <atomic>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "../processor.h"

static bool runs_here() { return fastgan::has(fastgan::Instructions::FASTGAN_NEEDS); }

#define FASTGAN_QUOTED(text) #text
#define FASTGAN_PRAGMA(text) _Pragma(FASTGAN_QUOTED(text))

#ifdef __clang__
FASTGAN_PRAGMA(clang attribute push(__attribute__((target(FASTGAN_TARGET))), apply_to = function))
#else
FASTGAN_PRAGMA(GCC target(FASTGAN_TARGET))
#endif
