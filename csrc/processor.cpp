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

}  // namespace

bool allowed(Instructions instructions) {
  static const Instructions found = most();
  return instructions <= found;
}

}  // namespace fastgan
