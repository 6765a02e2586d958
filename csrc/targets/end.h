// Ends what begin.h began; GCC's pragma goes to the end of the file.
#ifdef __clang__
#pragma clang attribute pop
#endif
