// An axis of a convolution as csrc/runtime takes it: phases of outputs that share taps, and patches.
//
// Along one axis, output o of a convolution reads input `stride * o - pad + dilation * k` through
// tap k of its kernel; of a transposed one it meets the taps k with `o + pad - dilation * k` a
// multiple of the stride, each on that multiple. Both repeat: with o one period further the same
// taps read inputs one advance further, where (period, advance) is (1, stride) or (stride, 1). So the
// outputs of an axis fall into phases, one for each place in the period; or, taken in patches of one
// or more periods, into a single one.
//
// Where a convolution reads its input enlarged, each input doubled, taps that meet the same input
// become one tap, their sum: of a kernel of three, two are left.
#pragma once

#include <stdint.h>

#include <vector>

namespace fastgan {

struct Axis {
  bool transposed = false;
  int64_t inputs = 1, outputs = 1;  // outputs beyond the last tap read nothing
  int64_t kernel = 1, stride = 1;
  int64_t pad = 0;                  // before the first input
  int64_t dilation = 1;
  int64_t repeats = 1;  // how often a convolution (no transposed one) reads each input

  int64_t period() const;   // after how many outputs the taps repeat
  int64_t advance() const;  // how many inputs further they then read
};

using Taps = std::vector<int64_t>;

// Patches of outputs that read the same taps, one after another.
struct AxisPhase {
  int64_t count;         // patches
  int64_t output;        // where the first begins (it may be before 0)
  int64_t output_step;   // to where the next begins
  int64_t input_step;    // how many inputs further the next one reads
  std::vector<int64_t> reads;            // the inputs of the first patch, ascending
  std::vector<std::vector<Taps>> taps;   // of each of them, those of each output of the patch
};

// The outputs one by one: a phase for each place in the period.
std::vector<AxisPhase> phases(const Axis& axis);

// The outputs in patches of so many periods, laid so that fewest inputs are read.
AxisPhase patches(const Axis& axis, int64_t periods);

}  // namespace fastgan
