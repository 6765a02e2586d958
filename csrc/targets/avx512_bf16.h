// What follows is for AVX-512 with products of bf16; end.h ends it.
#define FASTGAN_TARGET "avx512f,avx512dq,fma,avx512bf16"
#define FASTGAN_NEEDS kAvx512Bf16
#include "begin.h"
