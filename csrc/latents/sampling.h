// What the CPU paths share: the job, and the table of paths, one per instruction set.
#pragma once

#include "philox.h"

namespace fastgan {

// Samples start .. start + n - 1, written row by row to out [n, size] (uint32 words for kBits).
struct Job {
  Kind kind;
  Parameters parameters;
  float* out;
  uint64_t n, size;
  uint64_t seed, start;
  uint32_t stream;

  uint64_t blocks_per_sample() const { return size / 4 + (size % 4 != 0); }
};

struct Path {
  const char* name;
  bool (*runs_here)();
  // Blocks first .. last - 1, counted through all samples of the job.
  void (*fill)(const Job& job, uint64_t first, uint64_t last);
  // Rows first .. last - 1 divided by their Euclidean norms.
  void (*normalise)(const Job& job, uint64_t first, uint64_t last);
};

// Best first; the last one always runs.
extern const Path path_avx512, path_avx2, path_baseline, path_scalar;

}  // namespace fastgan
