// What follows is for AVX-512; end.h ends it.
#define FASTGAN_TARGET "avx512f,avx512dq,fma"
#define FASTGAN_NEEDS kAvx512
#include "begin.h"
