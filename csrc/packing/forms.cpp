#include "forms.h"

#include <algorithm>
#include <cmath>

#include "../divide.h"
#include "../memory.h"
#include "../processor.h"
#include "source.h"

namespace fastgan {
namespace {

// The share of all that bf16 is to save: where it takes as long, floats are more exact.
constexpr double kWorthBf16 = 0.08;

// What it costs to round a vector of inputs to bf16, in products with one.
constexpr double kRounded = 4;

// Outputs of a layer that the error of Winograd's filtering is measured on.
constexpr int64_t kMeasured = 16;

// Weights of layers that Winograd's filtering is used for are below: its own are finite then.
constexpr float kModerate = 1e18f;

// What may be filtered: the taps of a phase.
constexpr Filtering kFilterings[] = {{0, 3, 1}, {0, 2, 1}, {0, 2, 2}};

// Thrown where a product's numbers are needed, and are not here.
struct Unread {};

// What is asked of weights once, and known from then on.
struct Verdicts {
  const Key& numbers;
  Known& known;

  // ask: of the weights.
  template <class F>
  bool on(const Product& product, const Layout& layout, const AxisPhase& y, const AxisPhase& x,
          const Filtering& of, int64_t pack, const F& ask) const {
    Key key = numbers;
    add_shape(key, product).add(layout.height).add(layout.width);
    key.add(of.pixels).add(of.taps).add(of.stride).add(pack);
    add_taps(key, y), add_taps(key, x);
    const auto at = known.exact.find(key.text());
    if (at != known.exact.end()) return at->second;
    if (product.weight == nullptr) throw Unread();
    return known.exact[key.text()] = ask();
  }
};

// Whether a phase's taps along an axis are such parts, side by side.
bool is_run(const AxisPhase& phase, const Filtering& of) {
  const std::vector<int64_t>& reads = phase.reads;
  const int64_t side = of.taps * of.stride;
  return phase.input_step == of.stride && static_cast<int64_t>(reads.size()) == side &&
         reads.back() - reads.front() == side - 1;  // they ascend
}

// Whether a phase's weights are all so that sums of them stay finite.
bool is_moderate(const Product& product, const Source& source, int64_t taps, int64_t lanes) {
  std::vector<float> read(lanes);
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t c = 0; c < product.channels; ++c) {
      source.read(t, c, 0, lanes, read.data());
      for (const float weight : read) {
        if (!(std::abs(weight) < kModerate)) return false;
      }
    }
  }
  return true;
}

PhaseSize size_of(const Product& product, const Layout& layout, const AxisPhase& y,
                  const AxisPhase& x, int64_t pack) {
  const int64_t taps = static_cast<int64_t>(y.reads.size() * x.reads.size());
  const int64_t phases = static_cast<int64_t>(layout.rows.size() * layout.columns.size());
  return {taps, y.count, x.count, product.channels, layout.lanes, phases, pack};
}

// The taps of some lanes of a phase as they are measured, [channels][parts][taps of a part][lanes];
// none where they are not moderate.
std::vector<float> measured(const Product& product, const Layout& layout, const AxisPhase& y,
                            const AxisPhase& x, const Filtering& as, int64_t lanes) {
  const int64_t channels = product.channels, parts = as.parts(), each = as.taps * as.taps;
  const Source source(product, layout, y, x);
  if (!is_moderate(product, source, parts * each, layout.lanes)) return {};
  std::vector<float> taps(channels * parts * each * lanes);
  float* to = taps.data();
  for (int64_t c = 0; c < channels * parts; ++c) {
    for (int64_t t = 0; t < each; ++t) {
      for (int64_t l = 0; l < lanes; ++l, ++to) {
        const int64_t lane = l * layout.lanes / lanes;
        source.read(as.tap(c % parts, t), c / parts, lane, lane + 1, to);
      }
    }
  }
  return taps;
}

// The fastest filtering of a phase that has these parts, of tiles up to `most`, that is exact
// enough; of 0 pixels where there is none.
Filtering filtering_by(const Product& product, const Layout& layout, const AxisPhase& y,
                       const AxisPhase& x, const Filtering& as, int64_t most, int64_t pack,
                       const Verdicts& verdicts) {
  const int64_t lanes = std::min(layout.lanes, kMeasured);
  std::vector<float> taps;
  for (const int64_t m : minimal(as, size_of(product, layout, y, x, pack), most)) {
    const Filtering found{m, as.taps, as.stride};
    const bool exact = verdicts.on(product, layout, y, x, found, pack, [&] {
      if (taps.empty()) taps = measured(product, layout, y, x, as, lanes);
      if (taps.empty()) return false;
      const int64_t inputs = product.channels * as.parts();
      const double error = minimal_error(found, taps.data(), inputs, lanes, pack > 1);
      return error <= (pack > 1 ? kMinimalErrorBf16 : kMinimalError);
    });
    if (exact) return found;
  }
  return as;
}

// How a phase is filtered; of 0 pixels: not at all.
Filtering filtering_of(const Product& product, const Layout& layout, const AxisPhase& y,
                       const AxisPhase& x, int64_t most, int64_t most_bytes, int64_t pack,
                       const Verdicts& verdicts) {
  for (const Filtering& as : kFilterings) {
    if (!is_run(y, as) || !is_run(x, as)) continue;
    check_room(as.taps * as.taps * as.parts() * product.channels, layout.lanes, most_bytes);
    return filtering_by(product, layout, y, x, as, most, pack, verdicts);
  }
  return {};
}

// As `forms_of`; throws Unread.
Forms choose(const Product& product, const Layout& layout, int64_t most_minimal, int64_t most_bytes,
             int64_t pack, const Verdicts& verdicts) {
  const double inputs = static_cast<double>(product.rows.inputs * product.columns.inputs);
  const double vectors = static_cast<double>(divide_up(product.channels, kNominal));
  Forms filtered, plain{{}, pack > 1 ? kRounded * inputs * vectors : 0};
  bool all = product.channels % pack == 0;
  for (const AxisPhase& y : layout.rows) {
    for (const AxisPhase& x : layout.columns) {
      const PhaseSize size = size_of(product, layout, y, x, pack);
      const auto add = [&](Forms& to, const Filtering& as) {
        to.filterings.push_back(as);
        to.cost += phase_cost(as, size);
      };
      Filtering as;
      if (all) as = filtering_of(product, layout, y, x, most_minimal, most_bytes, pack, verdicts);
      all = all && (pack == 1 || as.pixels > 0);
      add(filtered, as);
      add(plain, {});
    }
  }
  return pack == 1 || (all && filtered.cost < plain.cost) ? filtered : plain;
}

}  // namespace

std::optional<Forms> forms_of(const Product& product, const Layout& layout, int64_t most_minimal,
                              int64_t most_bytes, int64_t pack, const Key& numbers, Known& known) {
  try {
    return choose(product, layout, most_minimal, most_bytes, pack, {numbers, known});
  } catch (const Unread&) {
    return std::nullopt;
  }
}

std::optional<bool> is_faster_in_bf16(const Product& product, int64_t most_minimal,
                                      int64_t most_bytes, const Key& numbers, Known& known) {
  const Layout layout = layout_of(product, kNominal);
  const auto forms = [&](int64_t pack) {
    return forms_of(product, layout, most_minimal, most_bytes, pack, numbers, known);
  };
  const std::optional<Forms> floats = forms(1);
  if (!floats.has_value()) return std::nullopt;
  const std::optional<Forms> pairs = forms(2);
  if (!pairs.has_value()) return std::nullopt;
  return pairs->cost < (1 - kWorthBf16) * floats->cost;
}

}  // namespace fastgan
