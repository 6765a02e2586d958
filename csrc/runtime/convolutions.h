// What convolutions have in common that divide their work into items.
#pragma once

#include <stdint.h>

#include <utility>
#include <vector>

namespace fastgan {

// Multiply-adds to an item: a microsecond, above the cost of taking one, and little enough that no
// thread waits long for another at the end of a layer.
constexpr int64_t kItem = 1 << 17;

// Elements that are rounded, or copied, at a time.
constexpr int64_t kRound = 1 << 15;

// One part more where they are few and an odd number of them, and there are enough to divide.
int64_t evenly(int64_t all, int64_t parts);

// How many taps follow each other in each row; 1 where rows differ.
int64_t in_a_row(const std::vector<std::pair<int64_t, int64_t>>& taps);

}  // namespace fastgan
