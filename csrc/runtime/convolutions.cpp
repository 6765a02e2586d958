#include "convolutions.h"

#include <algorithm>

#include "kernels/kernels.h"

namespace fastgan {
namespace {

// Fewer parts than these are to be an even number, as most often the threads are.
constexpr int64_t kFewParts = 16;

int64_t reflected(int64_t at, int64_t size) {
  if (at < 0) at = -at;
  if (at >= size) at = 2 * (size - 1) - at;
  return at;
}

}  // namespace

int64_t evenly(int64_t all, int64_t parts) {
  return parts > 1 && parts < kFewParts && parts < all ? parts + parts % 2 : parts;
}

int64_t in_a_row(const std::vector<std::pair<int64_t, int64_t>>& taps) {
  const int64_t count = static_cast<int64_t>(taps.size());
  int64_t run = 1;
  while (run < count && taps[run].first == taps[0].first) ++run;
  if (count % run != 0) return 1;
  for (int64_t t = 0; t < count; ++t) {
    const auto& first = taps[t / run * run];
    if (taps[t] != std::make_pair(first.first, first.second + t % run)) return 1;
  }
  return run;
}

Reach::Reach(int64_t size, int64_t stride, Border border, int64_t first_tap, int64_t last_tap,
             int64_t most)
    : before(std::max<int64_t>(0, -first_tap)), first(-first_tap), last(size - last_tap) {
  const int64_t end = std::max(size, most + last_tap + 1);
  for (int64_t row = -before; row < end; ++row) {
    int64_t found = row;
    if (border == Border::kReflect) found = reflected(row, size);
    if (border == Border::kEdge) found = std::clamp<int64_t>(row, 0, size - 1);
    at.push_back(found < 0 || found >= size ? -1 : found * stride);
  }
}

}  // namespace fastgan
