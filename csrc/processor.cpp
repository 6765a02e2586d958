#include "processor.h"

#include <stdlib.h>
#include <string.h>

namespace fastgan {
namespace {

constexpr const char* kNames[] = {"portable", "avx2", "avx512", "avx512_bf16"};

Instructions most() {
  const char* name = getenv("FASTGAN_CPU");
  for (int i = 0; name != nullptr && i < 4; ++i) {
    if (strcmp(name, kNames[i]) == 0) return static_cast<Instructions>(i);
  }
  return Instructions::kAvx512Bf16;  // fastgan/host/processor.py refuses a name that is none
}

bool supports(Instructions instructions) {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 =
      avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
  switch (instructions) {
    case Instructions::kAvx2:
      return avx2;
    case Instructions::kAvx512:
      return avx512;
    case Instructions::kAvx512Bf16:
      return avx512 && __builtin_cpu_supports("avx512bf16");
    default:
      return true;
  }
#else
  return instructions == Instructions::kPortable;
#endif
}

}  // namespace

bool has(Instructions instructions) {
  static const Instructions allowed = most();
  return instructions <= allowed && supports(instructions);
}

}  // namespace fastgan
