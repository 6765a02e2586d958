// What the compiler at hand has. GCC and Clang, clang-cl too, have vectors of their own; for x86-64
// they make code that needs instructions which not every processor has. Any other compiler takes the
// portable code in plain C++, as does one that is told so by FASTGAN_PLAIN.
#pragma once

#if (defined(__GNUC__) || defined(__clang__)) && !defined(FASTGAN_PLAIN)
#define FASTGAN_VECTORS
#ifdef __x86_64__
#define FASTGAN_X86
#if __has_include(<amxtileintrin.h>) || __has_include(<amxintrin.h>)  // GCC's and Clang's
#define FASTGAN_AMX
#endif
#endif
#endif
