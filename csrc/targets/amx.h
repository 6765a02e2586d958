// What follows is for AMX beside AVX-512; end.h ends it.
#ifdef FASTGAN_EMULATE_TILES
#define FASTGAN_TARGET "avx512f,avx512dq,fma,avx512bf16"
#define FASTGAN_NEEDS kAvx512Bf16
#else
#define FASTGAN_TARGET "avx512f,avx512dq,fma,avx512bf16,amx-tile,amx-bf16"
#define FASTGAN_NEEDS kAmx
#endif
#include "begin.h"
