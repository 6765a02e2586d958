// What follows is for AVX2 with FMA; end.h ends it.
#define FASTGAN_TARGET "avx2,fma"
#define FASTGAN_NEEDS kAvx2
#include "begin.h"
