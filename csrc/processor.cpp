#include "processor.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <initializer_list>
#include <iterator>

#include "targets/compiler.h"
#ifdef FASTGAN_X86
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastgan {
namespace {

constexpr const char* kNames[] = {"portable", "avx2", "avx512", "avx512_bf16", "amx"};

Instructions most() {
  const char* name = getenv("FASTGAN_CPU");
  for (int i = 0; name != nullptr && i < static_cast<int>(std::size(kNames)); ++i) {
    if (strcmp(name, kNames[i]) == 0) return static_cast<Instructions>(i);
  }
  return Instructions::kAvx512Bf16;  // fastgan/host/processor.py refuses a name that is none
}

#ifdef FASTGAN_X86
struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

// What the processor says of itself (Intel's manual, CPUID; AMD's is alike); zeros of what it lacks.
// Compilers' own functions for it want a library that clang-cl does not link.
Registers cpuid(unsigned leaf, unsigned part) {
  Registers r;
  __get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d);
  return r;
}

bool bits(unsigned word, std::initializer_list<int> which) {
  for (const int bit : which) {
    if ((word >> bit & 1) == 0) return false;
  }
  return true;
}

// Whether tiles can be used: the system saves their registers for who has asked it to.
bool may_use_tiles(unsigned saved) {
#ifdef __linux__
  constexpr long kAsk = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM of <asm/prctl.h>
  return bits(saved, {17, 18}) && syscall(SYS_arch_prctl, kAsk, kTileData) == 0;
#else
  return false;
#endif
}

// The most that processor and system have.
Instructions best_here() {
  const Registers basic = cpuid(1, 0), more = cpuid(7, 0);
  constexpr int kFma = 12, kSavesRegisters = 27;
  if (!bits(basic.c, {kFma, kSavesRegisters})) return Instructions::kPortable;
  unsigned saved, above;  // which registers the system saves: XCR0
  __asm__("xgetbv" : "=a"(saved), "=d"(above) : "c"(0));
  constexpr int kAvx2 = 5, kAvx512F = 16, kAvx512Dq = 17, kBf16 = 5;
  if (!bits(saved, {1, 2}) || !bits(more.b, {kAvx2})) return Instructions::kPortable;
  if (!bits(saved, {5, 6, 7}) || !bits(more.b, {kAvx512F, kAvx512Dq})) return Instructions::kAvx2;
  if (!bits(cpuid(7, 1).a, {kBf16})) return Instructions::kAvx512;
  constexpr int kAmxBf16 = 22, kAmxTile = 24;
  const bool tiles = bits(more.d, {kAmxBf16, kAmxTile}) && most() == Instructions::kAmx;
  return tiles && may_use_tiles(saved) ? Instructions::kAmx : Instructions::kAvx512Bf16;
}
#else
Instructions best_here() { return Instructions::kPortable; }
#endif

}  // namespace

bool has(Instructions instructions) {
  static const Instructions allowed = std::min(most(), best_here());
  return instructions <= allowed;
}

bool has_carryless_products() {
#ifdef FASTGAN_X86
  constexpr int kPclmulqdq = 1;
  static const bool found = bits(cpuid(1, 0).c, {kPclmulqdq});  // a virtual machine takes its time
  return found && has(Instructions::kAvx2);
#else
  return false;
#endif
}

}  // namespace fastgan
