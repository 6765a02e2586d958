#include "kernels.h"

#include <initializer_list>

#include "../../targets/compiler.h"

namespace fastgan {
namespace {

// The first table whose instructions this processor has; the last one needs none.
template <class Table>
const Table& best(std::initializer_list<const Table*> tables) {
  for (const Table* table : tables) {
    if (table->runs_here()) return *table;
  }
  return **(tables.end() - 1);
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& found = best<Kernels>({
#ifdef FASTGAN_X86
      &kernels_avx512, &kernels_avx2,
#endif
      &kernels_portable});
  return found;
}

const Bf16Kernels& bf16_kernels() {
  static const Bf16Kernels& found = best<Bf16Kernels>({
#ifdef FASTGAN_AMX
      &bf16_kernels_amx,
#endif
#ifdef FASTGAN_X86
      &bf16_kernels_avx512, &bf16_kernels_avx2,
#endif
      &bf16_kernels_portable});
  return found;
}

}  // namespace fastgan
