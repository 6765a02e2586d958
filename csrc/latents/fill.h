// The CPU loop over blocks, for the lane type that lanes.h makes of FASTGAN_LANES.
//
// A group is as many blocks as that type has 64-bit lanes, consecutive through all samples.
#pragma once

#include "lanes.h"
#include "sampling.h"

namespace fastgan {
namespace {

constexpr uint64_t kGroupFloats = 4 * kLanes;
constexpr uint64_t kScratchGroups = 8;

// The counters of the next group: each lane's sample and block within it.
struct Cursor {
  Lane::Wide sample, block;
  uint64_t blocks_per_sample, skip_samples, skip_blocks;

  FASTGAN_FN Cursor(const Job& job, uint64_t first) {
    blocks_per_sample = job.blocks_per_sample();
    skip_samples = kLanes / blocks_per_sample;
    skip_blocks = kLanes % blocks_per_sample;
    uint64_t samples[kLanes], blocks[kLanes];
    for (uint64_t i = 0; i < kLanes; ++i) {
      const uint64_t lane = lane_of_block(i);
      samples[lane] = job.start + (first + i) / blocks_per_sample;
      blocks[lane] = (first + i) % blocks_per_sample;
    }
    memcpy(&sample, samples, sizeof sample);
    memcpy(&block, blocks, sizeof block);
  }

  FASTGAN_FN void advance() {
    sample = sample + skip_samples;
    block = block + skip_blocks;
    const auto wrapped = block >= blocks_per_sample;
    sample = Lane::select_wide(wrapped, sample + static_cast<uint64_t>(1), sample);
    block = Lane::select_wide(wrapped, block - blocks_per_sample, block);
  }
};

// `groups` whole groups to out, back to back: four floats per block, the last of a sample included.
template <int K>
FASTGAN_FN void fill_groups(const Job& job, Cursor& cursor, uint64_t groups, float* out) {
  const Lane::Wide stream = Lane::wide(job.stream);
  const Parameters parameters = job.parameters;
  Keys keys(job.seed);
#ifdef __GNUC__
  __asm__("" : "+m"(keys));  // else the compiler makes the keys anew in every turn
#endif
  for (; groups > 0; --groups, out += kGroupFloats) {
    Lane::Wide c[4] = {cursor.sample, Lane::high(cursor.sample), cursor.block, stream};
    cursor.advance();
    philox<Lane>(c, keys);
    draw_group<K>(c, parameters, out);
  }
}

// Copies blocks first .. last - 1 from scratch to their rows, without the padding of a sample's
// last block.
inline void copy_blocks(const Job& job, uint64_t first, uint64_t last, const float* scratch) {
  const uint64_t per_sample = job.blocks_per_sample();
  while (first < last) {
    const uint64_t row = first / per_sample, column = 4 * (first % per_sample);
    uint64_t blocks = per_sample - first % per_sample;
    if (blocks > last - first) blocks = last - first;
    const uint64_t room = job.size - column;
    const uint64_t count = 4 * blocks < room ? 4 * blocks : room;
    memcpy(job.out + row * job.size + column, scratch, count * sizeof(float));
    first += blocks;
    scratch += 4 * blocks;
  }
}

template <int K>
void fill_kind(const Job& job, uint64_t first, uint64_t last) {
  Cursor cursor(job, first);
  if (job.size % 4 == 0) {  // blocks lie in the output as they are made
    const uint64_t groups = (last - first) / kLanes;
    fill_groups<K>(job, cursor, groups, job.out + 4 * first);
    first += groups * kLanes;
  }
  alignas(64) float scratch[kScratchGroups * kGroupFloats];
  while (first < last) {
    uint64_t blocks = last - first;
    if (blocks > kScratchGroups * kLanes) blocks = kScratchGroups * kLanes;
    fill_groups<K>(job, cursor, (blocks + kLanes - 1) / kLanes, scratch);
    copy_blocks(job, first, first + blocks, scratch);
    first += blocks;
  }
}

void fill(const Job& job, uint64_t first, uint64_t last) {
  switch (job.kind) {
    case kBits: return fill_kind<kBits>(job, first, last);
    case kUniform: return fill_kind<kUniform>(job, first, last);
    case kTruncated: return fill_kind<kTruncated>(job, first, last);
    case kNormal:
    case kHypersphere: return fill_kind<kNormal>(job, first, last);
  }
}

// The sum of squares has a fixed order: 16 partial sums, then halved: 8, 4, 2, 1.
void normalise(const Job& job, uint64_t first, uint64_t last) {
  for (float* row = job.out + first * job.size; first < last; ++first, row += job.size) {
    float sums[16] = {};
    uint64_t j = 0;
    for (; j + 16 <= job.size; j += 16) {
      for (int i = 0; i < 16; ++i) sums[i] += row[j + i] * row[j + i];
    }
    for (int i = 0; j < job.size; ++i, ++j) sums[i] += row[j] * row[j];
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
    }
    const float norm = Scalar::square_root(sums[0]);
    for (j = 0; j < job.size; ++j) row[j] /= norm;
  }
}

}  // namespace
}  // namespace fastgan
