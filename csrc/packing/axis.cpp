#include "axis.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "../divide.h"

namespace fastgan {
namespace {

int64_t floor_of(int64_t a, int64_t b) { return a >= 0 ? a / b : -divide_up(-a, b); }

AxisPhase phase(const Axis& axis, int64_t first, int64_t size, int64_t periods) {
  std::map<int64_t, std::vector<Taps>> reads;
  for (int64_t place = 0; place < size; ++place) {
    for (int64_t k = 0; k < axis.kernel; ++k) {
      int64_t at;
      if (axis.transposed) {
        const int64_t reach = first + place + axis.pad - axis.dilation * k;
        if (reach % axis.stride != 0) continue;
        at = reach / axis.stride;
      } else {
        const int64_t begin = axis.stride * (first + place) - axis.pad;
        at = floor_of(begin + axis.dilation * k, axis.repeats);
      }
      std::vector<Taps>& found = reads[at];
      found.resize(size);
      found[place].push_back(k);
    }
  }
  const int64_t step = periods * axis.period();
  AxisPhase made{divide_up(axis.outputs - first, step), first, step, periods * axis.advance(),
                 {}, {}};
  for (auto& [at, taps] : reads) {
    made.reads.push_back(at);
    made.taps.push_back(std::move(taps));
  }
  return made;
}

}  // namespace

int64_t Axis::period() const {
  return transposed ? stride : repeats / std::gcd(stride, repeats);
}

int64_t Axis::advance() const { return transposed ? 1 : stride / std::gcd(stride, repeats); }

std::vector<AxisPhase> phases(const Axis& axis) {
  std::vector<AxisPhase> found;
  for (int64_t first = 0; first < std::min(axis.period(), axis.outputs); ++first) {
    found.push_back(phase(axis, first, 1, 1));
  }
  return found;
}

AxisPhase patches(const Axis& axis, int64_t periods) {
  const int64_t size = periods * axis.period();
  const auto work = [](const AxisPhase& p) {
    return static_cast<int64_t>(p.reads.size()) * p.count;
  };
  AxisPhase best = phase(axis, 0, size, periods);
  for (int64_t start = 1; start < std::min(size, axis.period()) && work(best) > 1; ++start) {
    AxisPhase made = phase(axis, -start, size, periods);
    if (work(made) < work(best)) best = std::move(made);
  }
  return best;
}

}  // namespace fastgan
