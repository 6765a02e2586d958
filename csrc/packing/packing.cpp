#include "packing.h"

#include <string.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <stdexcept>

#include "../processor.h"
#include "../workers.h"
#include "bfloat16.h"

namespace fastgan {
namespace {

// A patch is stored in pieces, so it is to save this share of the arithmetic at least.
constexpr double kSaves = 0.2;

// And bf16 this share of all: where it takes as long, floats are more exact.
constexpr double kWorthBf16 = 0.08;

// What a multiply-add costs where a block has one vector instead of two, which share each input.
constexpr double kOneVector = 1.2;

// Periods of a patch along an axis that are tried: 1 to this.
constexpr int64_t kPeriods = 4;

constexpr int64_t kMostLanes = 64;

// What it costs to round a vector of inputs to bf16, in products with one.
constexpr double kRounded = 4;

// What fastgan/engine/native/ takes is far below.
constexpr size_t kMostTaps = 1 << 16;

// Outputs of a layer that the error of Winograd's filtering is measured on.
constexpr int64_t kMeasured = 16;

// Weights of layers that Winograd's filtering is used for are below: its own are finite then.
constexpr float kModerate = 1e18f;

// What may be filtered: the taps of a phase.
constexpr Filtering kFilterings[] = {{0, 3, 1}, {0, 2, 1}, {0, 2, 2}};

// Weights that are packed at a time, so that what they are read from stays in a cache.
constexpr int64_t kChunk = 1 << 16;

int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How a layer's outputs are made.
struct Geometry {
  std::vector<AxisPhase> rows, columns;  // a phase of the layer is a pair of them
  int64_t height, width;                 // outputs along each axis that a pixel makes
  int64_t lanes;                         // output channels of a whole patch
  int64_t vectors;                       // of a block of lanes

  // Vectors of products for each input channel, weighted by what they cost.
  double cost(int64_t floats) const {
    int64_t taps[2] = {0, 0};
    for (int i = 0; i < 2; ++i) {
      for (const AxisPhase& phase : i == 0 ? rows : columns) {
        taps[i] += phase.count * static_cast<int64_t>(phase.reads.size());
      }
    }
    const int64_t blocks = up(lanes, vectors * floats);
    return static_cast<double>(taps[0] * taps[1] * blocks * vectors) *
           (vectors == 1 ? kOneVector : 1.0);
  }
};

// With the number of vectors to a block that costs less.
Geometry best(const Product& product, std::vector<AxisPhase> rows, std::vector<AxisPhase> columns,
              int64_t height, int64_t width, int64_t floats) {
  const int64_t pixels = height * width * product.block_height * product.block_width;
  Geometry made{std::move(rows), std::move(columns), height, width, pixels * product.outputs, 2};
  const double two = made.cost(floats);
  made.vectors = 1;
  if (made.cost(floats) >= two) made.vectors = 2;
  return made;
}

// The ways in which an axis may be divided, for every instruction set.
struct Ways {
  std::vector<AxisPhase> phases;   // none of a linear map
  std::vector<AxisPhase> patches;  // of 1, 2, ... periods

  Ways(const Axis& axis, bool linear) {
    if (!linear) phases = fastgan::phases(axis);
    for (int64_t n = 1; n <= (linear ? 1 : kPeriods); ++n) {
      patches.push_back(fastgan::patches(axis, n));
    }
  }
};

// The cheapest way: pixel by pixel, or where that is much work for nothing, in patches.
Geometry geometry(const Product& product, const Ways& rows, const Ways& columns, int64_t floats) {
  const auto patched = [&](int64_t y, int64_t x) {
    return best(product, {rows.patches[y - 1]}, {columns.patches[x - 1]},
                y * product.rows.period(), x * product.columns.period(), floats);
  };
  if (product.linear) return patched(1, 1);
  Geometry plain = best(product, rows.phases, columns.phases, 1, 1, floats);
  Geometry cheapest = patched(1, 1);
  for (int64_t y = 1; y <= kPeriods; ++y) {
    for (int64_t x = 1; x <= kPeriods; ++x) {
      Geometry made = patched(y, x);
      if (made.cost(floats) < cheapest.cost(floats)) cheapest = std::move(made);
    }
  }
  return cheapest.cost(floats) < (1 - kSaves) * plain.cost(floats) ? cheapest : plain;
}

// In place of a weight where there is none.
constexpr float kNoFactor = -0.0f;

bool is_none(float weight) { return weight == 0 && std::signbit(weight); }

Sign sign_of(float weight) {
  if (is_none(weight)) return kNoWeight;
  return weight > 0 ? kPositive : weight < 0 ? kNegative : kZero;
}

uint16_t weight_in_bf16(float value) {
  const uint16_t rounded = to_bfloat16(value);
  return rounded == 0x8000 && !is_none(value) ? 0 : rounded;  // it is small, not none
}

// Where the weights of each tap and lane of a phase are read: lanes are a patch's [height, block
// height, width, block width, outputs]. Where several meet they are added up; where there is none it
// is -0, by which kernels know that nothing is to come that way, be it NaN. A weight that is -0
// becomes +0, which changes no sum but one that is zero itself: its sign.
class Source {
 public:
  Source(const Product& product, const Geometry& made, const AxisPhase& y, const AxisPhase& x)
      : product_(product), lanes_(made.lanes) {
    const int64_t* s = product.strides;
    for (const std::vector<Taps>& down : y.taps) {
      for (const std::vector<Taps>& across : x.taps) {
        for (int64_t py = 0; py < made.height; ++py) {
          for (int64_t by = 0; by < product.block_height; ++by) {
            for (int64_t px = 0; px < made.width; ++px) {
              const Taps &ky = down[py], &kx = across[px];
              for (int64_t bx = 0; bx < product.block_width; ++bx) {
                const int64_t at = by * s[3] + bx * s[4];
                for (int64_t o = 0; o < product.outputs; ++o) {
                  add(ky, kx, at + o * s[5]);
                }
              }
            }
          }
        }
      }
    }
  }

  // Channel c of lanes first .. last - 1 of a tap.
  void read(int64_t tap, int64_t c, int64_t first, int64_t last, float* to) const {
    const float* weight = product_.weight + c * product_.strides[2];
    const int64_t* at = at_.data() + tap * lanes_;
    for (int64_t lane = first; lane < last; ++lane, ++to) {
      if (at[lane] == kNone || (product_.depthwise && lane % product_.outputs != c)) {
        *to = kNoFactor;
      } else {
        *to = (at[lane] >= 0 ? weight[at[lane]] : sum(at[lane], weight)) + 0.0f;
      }
    }
  }

  // Whether a lane lacks a tap or channel.
  bool sparse() const {
    return product_.depthwise || std::find(at_.begin(), at_.end(), kNone) != at_.end();
  }

 private:
  static constexpr int64_t kNone = -1;

  struct Several {
    Taps ky, kx;
    int64_t at;
  };

  void add(const Taps& ky, const Taps& kx, int64_t at) {
    const int64_t* s = product_.strides;
    if (ky.empty() || kx.empty()) {
      at_.push_back(kNone);
    } else if (ky.size() == 1 && kx.size() == 1) {
      at_.push_back(ky[0] * s[0] + kx[0] * s[1] + at);
    } else {
      at_.push_back(kNone - 1 - static_cast<int64_t>(several_.size()));
      several_.push_back({ky, kx, at});
    }
  }

  float sum(int64_t code, const float* weight) const {
    const Several& of = several_[kNone - 1 - code];
    float total = 0;
    for (const int64_t ky : of.ky) {
      float row = 0;
      for (const int64_t kx : of.kx) {
        row += weight[of.at + ky * product_.strides[0] + kx * product_.strides[1]];
      }
      total += row;
    }
    return total;
  }

  const Product& product_;
  const int64_t lanes_;
  std::vector<int64_t> at_;  // [taps][lanes]
  std::vector<Several> several_;
};

// What the threads share out: chunks of a phase's channels.
struct Job {
  const Source& source;
  int64_t lanes, block, taps, channels, pack;
  Filtering filtering;
  int64_t chunk;
  void* out;
  int8_t* signs;

  void run(int64_t item) const {
    const int64_t first = item * chunk, last = std::min(channels, first + chunk);
    const int64_t blocks = up(lanes, block), places = filtering.places();
    const int64_t parts = filtering.parts(), each = filtering.taps * filtering.taps;
    float values[9 * kMostLanes] = {}, transformed[36 * kMostLanes];
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t begin = b * block, end = std::min(lanes, begin + block);
      memset(values, 0, sizeof values);
      for (int64_t c = first; c < last; ++c) {
        for (int64_t part = 0; filtering.pixels > 0 && part < parts; ++part) {
          for (int64_t t = 0; t < each; ++t) {
            const int64_t tap = filtering.tap(part, t);
            source.read(tap, c, begin, end, values + t * block);
            int8_t* const to = signs + ((b * taps + tap) * channels + c) * block;
            for (int64_t l = 0; l < block; ++l) to[l] = sign_of(values[t * block + l]);
          }
          if (pack == 1) {
            const int64_t row = (b * places * parts + part) * channels + c;
            float* to = static_cast<float*>(out) + row * block;
            transform_weights(filtering, values, block, to, parts * channels * block);
            continue;
          }
          transform_weights(filtering, values, block, transformed, block);
          for (int64_t p = 0; p < places; ++p) {
            const int64_t row = ((b * places + p) * parts + part) * channels + c;
            uint16_t* to = static_cast<uint16_t*>(out) + row / pack * block * pack + row % pack;
            const float* from = transformed + p * block;
            for (int64_t l = 0; l < block; ++l) to[l * pack] = to_bfloat16(from[l]);
          }
        }
        if (filtering.pixels > 0) continue;
        for (int64_t t = 0; t < taps; ++t) {
          if (pack == 1) {
            float* to = static_cast<float*>(out) + ((b * taps + t) * channels + c) * block;
            source.read(t, c, begin, end, to);
          } else {
            const int64_t groups = up(channels, pack);
            source.read(t, c, begin, end, values);
            uint16_t* to = static_cast<uint16_t*>(out) +
                           ((b * taps + t) * groups + c / pack) * block * pack + c % pack;
            for (int64_t l = 0; l < end - begin; ++l) to[l * pack] = weight_in_bf16(values[l]);
          }
        }
      }
    }
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

// Thrown where a product's numbers are needed, and are not here.
struct Unread {};

// What a product is packed of, and how its shape divides it, whatever the size of images.
Key shape_key(const Product& product, const Key& numbers) {
  Key key = numbers;
  key.add(product.linear).add(product.depthwise).add(product.channels).add(product.outputs);
  return key.add(product.block_height).add(product.block_width);
}

// The taps of a phase along an axis, for each output of a patch, whichever inputs they read.
void add_taps(Key& key, const AxisPhase& phase) {
  key.add(phase.taps.size());
  for (const std::vector<Taps>& of_input : phase.taps) {
    key.add(of_input.size());
    for (const Taps& taps : of_input) {
      key.add(taps.size());
      for (const int64_t tap : taps) key.add(tap);
    }
  }
}

// What is asked of weights once, and known from then on.
struct Verdicts {
  const Key& numbers;
  Known& known;

  // ask: of the weights.
  template <class F>
  bool on(const Product& product, const Geometry& made, const AxisPhase& y, const AxisPhase& x,
          const Filtering& of, int64_t pack, const F& ask) const {
    Key key = shape_key(product, numbers);
    key.add(made.height).add(made.width).add(of.pixels).add(of.taps).add(of.stride).add(pack);
    add_taps(key, y), add_taps(key, x);
    const auto at = known.exact.find(key.text());
    if (at != known.exact.end()) return at->second;
    if (product.weight == nullptr) throw Unread();
    return known.exact[key.text()] = ask();
  }
};

PhaseSize size_of(const Product& product, const Geometry& made, const AxisPhase& y,
                  const AxisPhase& x, int64_t pack) {
  const int64_t taps = static_cast<int64_t>(y.reads.size() * x.reads.size());
  const int64_t phases = static_cast<int64_t>(made.rows.size() * made.columns.size());
  return {taps, y.count, x.count, product.channels, made.lanes, phases, pack};
}

// The taps of some lanes of a phase as they are measured, [channels][parts][taps of a part][lanes];
// none where they are not moderate.
std::vector<float> measured(const Product& product, const Geometry& made, const AxisPhase& y,
                            const AxisPhase& x, const Filtering& as, int64_t lanes) {
  const int64_t channels = product.channels, parts = as.parts(), each = as.taps * as.taps;
  const Source source(product, made, y, x);
  if (!is_moderate(product, source, parts * each, made.lanes)) return {};
  std::vector<float> taps(channels * parts * each * lanes);
  float* to = taps.data();
  for (int64_t c = 0; c < channels * parts; ++c) {
    for (int64_t t = 0; t < each; ++t) {
      for (int64_t l = 0; l < lanes; ++l, ++to) {
        const int64_t lane = l * made.lanes / lanes;
        source.read(as.tap(c % parts, t), c / parts, lane, lane + 1, to);
      }
    }
  }
  return taps;
}

// The fastest filtering of a phase that has these parts, of tiles up to `most`, that is exact enough;
// of 0 pixels where there is none.
Filtering filtering_by(const Product& product, const Geometry& made, const AxisPhase& y,
                       const AxisPhase& x, const Filtering& as, int64_t most, int64_t pack,
                       const Verdicts& verdicts) {
  const int64_t lanes = std::min(made.lanes, kMeasured);
  std::vector<float> taps;
  for (const int64_t m : minimal(as, size_of(product, made, y, x, pack), most)) {
    const Filtering found{m, as.taps, as.stride};
    const bool exact = verdicts.on(product, made, y, x, found, pack, [&] {
      if (taps.empty()) taps = measured(product, made, y, x, as, lanes);
      if (taps.empty()) return false;
      const int64_t inputs = product.channels * as.parts();
      const double error = minimal_error(found, taps.data(), inputs, lanes, pack > 1);
      return error <= (pack > 1 ? kMinimalErrorBf16 : kMinimalError);
    });
    if (exact) return found;
  }
  return as;
}

// Throws where so many floats are more than these bytes.
void fit(int64_t rows, int64_t lanes, int64_t bytes) {
  const double size = 4.0 * static_cast<double>(rows) * static_cast<double>(lanes);
  if (size > static_cast<double>(bytes) - 64) throw std::bad_alloc();
}

// How a phase is filtered; of 0 pixels: not at all.
Filtering filtering_of(const Product& product, const Geometry& made, const AxisPhase& y,
                       const AxisPhase& x, int64_t most, int64_t most_bytes, int64_t pack,
                       const Verdicts& verdicts) {
  for (const Filtering& as : kFilterings) {
    if (!is_run(y, as) || !is_run(x, as)) continue;
    fit(as.taps * as.taps * as.parts() * product.channels, made.lanes, most_bytes);  // measured
    return filtering_by(product, made, y, x, as, most, pack, verdicts);
  }
  return {};
}

// How each phase of a product is filtered, and what all take by `phase_cost`.
struct Forms {
  std::vector<Filtering> filterings;
  double cost = 0;
};

// In bf16 either all are, or none: those that are read floats.
Forms forms_of(const Product& product, const Geometry& made, int64_t most_minimal,
               int64_t most_bytes, int64_t pack, const Verdicts& verdicts) {
  const double inputs = static_cast<double>(product.rows.inputs * product.columns.inputs);
  const double rounding = kRounded * inputs * static_cast<double>(up(product.channels, kNominal));
  Forms filtered, plain{{}, pack > 1 ? rounding : 0};
  bool all = product.channels % pack == 0;
  for (const AxisPhase& y : made.rows) {
    for (const AxisPhase& x : made.columns) {
      const PhaseSize size = size_of(product, made, y, x, pack);
      const auto add = [&](Forms& to, const Filtering& as) {
        to.filterings.push_back(as);
        to.cost += phase_cost(as, size);
      };
      Filtering as;
      if (all) as = filtering_of(product, made, y, x, most_minimal, most_bytes, pack, verdicts);
      all = all && (pack == 1 || as.pixels > 0);
      add(filtered, as);
      add(plain, {});
    }
  }
  return pack == 1 || (all && filtered.cost < plain.cost) ? filtered : plain;
}

Geometry geometry(const Product& product, int64_t width) {
  return geometry(product, Ways(product.rows, product.linear),
                  Ways(product.columns, product.linear), width);
}

// By which weights of the same layout are found.
Key layout_key(const Product& product, const Geometry& made, const Forms& forms, int64_t width,
               int64_t pack, const Key& numbers) {
  Key key = shape_key(product, numbers);
  key.add(made.height).add(made.width).add(made.vectors).add(width).add(pack);
  for (const Filtering& of : forms.filterings) key.add(of.pixels).add(of.taps).add(of.stride);
  key.add(made.rows.size());
  for (const AxisPhase& y : made.rows) add_taps(key, y);
  for (const AxisPhase& x : made.columns) add_taps(key, x);
  return key;
}

}  // namespace

std::optional<bool> is_faster_in_bf16(const Product& product, int64_t most_minimal,
                                      int64_t most_bytes, const Key& numbers, Known& known) {
  const Geometry made = geometry(product, kNominal);
  const Verdicts verdicts{numbers, known};
  const auto cost = [&](int64_t pack) {
    return forms_of(product, made, most_minimal, most_bytes, pack, verdicts).cost;
  };
  try {
    return cost(2) < (1 - kWorthBf16) * cost(1);
  } catch (const Unread&) {
    return std::nullopt;
  }
}

std::unique_ptr<Packing> pack(const Product& product, int64_t width, int64_t pack,
                              int64_t most_minimal, int64_t threads, int64_t most_bytes,
                              const Key& numbers, Known& known) {
  // In bf16 every processor is to filter alike, so as one does.
  Geometry made = geometry(product, pack == 1 ? width : kNominal);
  Forms forms;
  try {
    forms = forms_of(product, made, most_minimal, most_bytes, pack, {numbers, known});
  } catch (const Unread&) {
    return nullptr;
  }
  if (pack > 1 && forms.filterings[0].pixels > 0) {
    made = best(product, made.rows, made.columns, made.height, made.width, width);
  } else if (pack > 1) {
    made = geometry(product, width);
    forms.filterings.assign(made.rows.size() * made.columns.size(), {});
  }
  const Axis &rows = product.rows, &columns = product.columns;
  const int64_t by = product.block_height, bx = product.block_width;
  const int64_t block = made.vectors * width, blocks = up(made.lanes, block);
  std::weak_ptr<const Block>& shared =
      known.blocks[layout_key(product, made, forms, width, pack, numbers).text()];
  std::shared_ptr<const Block> memory = shared.lock();
  const bool is_new = memory == nullptr;
  const bool biased = product.bias != nullptr || product.bias_number != 0;
  if (is_new && (product.weight == nullptr || (biased && product.bias == nullptr))) return nullptr;
  auto found = std::make_unique<Packing>();
  Packing& packing = *found;
  packing.in_height = rows.inputs, packing.in_width = columns.inputs;
  packing.in_channels = product.channels;
  packing.out_height = by * rows.outputs, packing.out_width = bx * columns.outputs;
  packing.out_channels = product.outputs;
  packing.vectors = made.vectors;
  packing.in_step_y = made.rows[0].input_step, packing.in_step_x = made.columns[0].input_step;
  packing.out_step_y = by * made.rows[0].output_step;
  packing.out_step_x = bx * made.columns[0].output_step;
  packing.patch_height = by * made.height, packing.patch_width = bx * made.width;

  // The phases first, and then memory for all of them.
  std::vector<int64_t> offsets, signs;
  int64_t bytes = 0;
  const auto take = [&](int64_t rows, int64_t lanes) {  // of float32
    if (is_new) fit(rows, lanes, most_bytes - bytes);
    const int64_t at = bytes;
    bytes = up(bytes + 4 * rows * lanes, 64) * 64;
    return at;
  };
  for (const AxisPhase& y : made.rows) {
    for (const AxisPhase& x : made.columns) {
      if (y.reads.size() * x.reads.size() > kMostTaps) {
        throw std::invalid_argument("too many taps");
      }
      PackedPhase phase{nullptr, y.count, x.count, by * y.output, bx * x.output, {}, {}, nullptr,
                        false};
      for (const int64_t dy : y.reads) {
        for (const int64_t dx : x.reads) phase.taps.emplace_back(dy, dx);
      }
      phase.filtering = forms.filterings[packing.phases.size()];
      packing.phases.push_back(std::move(phase));
    }
  }
  packing.pack = pack;
  for (const PackedPhase& phase : packing.phases) {
    const Filtering& of = phase.filtering;
    const int64_t taps = static_cast<int64_t>(phase.taps.size());
    const int64_t places = of.pixels > 0 ? of.places() * of.parts() : taps;
    offsets.push_back(take(places * up(product.channels, pack), blocks * block));
    const int64_t bytes_of = of.pixels > 0 ? taps * product.channels : 0;
    signs.push_back(take(up(bytes_of, 4), blocks * block));
  }
  const int64_t bias_at = take(biased ? 1 : 0, blocks * block);
  if (is_new) shared = memory = std::make_shared<const Block>(bytes);
  packing.memory = memory;

  size_t p = 0;
  for (const AxisPhase& y : made.rows) {
    for (const AxisPhase& x : made.columns) {
      PackedPhase& phase = packing.phases[p];
      char* const out = memory->data() + offsets[p];
      int8_t* const sign = reinterpret_cast<int8_t*>(memory->data() + signs[p++]);
      phase.weights = out;
      if (phase.filtering.pixels > 0) phase.signs = sign;
      const Source source(product, made, y, x);
      const int64_t taps = static_cast<int64_t>(phase.taps.size());
      phase.sparse = source.sparse();
      if (!is_new) continue;
      const int64_t each = std::max<int64_t>(1, taps * made.lanes);
      const int64_t chunk = std::clamp<int64_t>(kChunk / each, 1, 64) * pack;
      Job job{source,          made.lanes, block, taps, product.channels, pack,
              phase.filtering, chunk,      out,   sign};
      const auto work = [](void* context, int64_t, int64_t item) {
        static_cast<const Job*>(context)->run(item);
      };
      run_stages({up(product.channels, chunk)}, work, &job, threads);
    }
  }
  if (biased) packing.bias = reinterpret_cast<float*>(memory->data() + bias_at);
  if (biased && is_new) {
    float* to = reinterpret_cast<float*>(memory->data() + bias_at);
    const int64_t* s = product.bias_strides;
    for (int64_t y = 0; y < packing.patch_height; ++y) {
      for (int64_t x = 0; x < packing.patch_width; ++x) {
        const int64_t row = product.linear ? y : y % by, column = product.linear ? x : x % bx;
        for (int64_t o = 0; o < product.outputs; ++o) {
          *to++ = product.bias[row * s[0] + column * s[1] + o * s[2]];
        }
      }
    }
  }
  return found;
}

int64_t most_taps(const Product& product) {
  int64_t most = 0;
  const Ways rows(product.rows, product.linear), columns(product.columns, product.linear);
  for (const int64_t width : {4, 8, 16}) {
    const Geometry made = geometry(product, rows, columns, width);
    for (const AxisPhase& y : made.rows) {
      for (const AxisPhase& x : made.columns) {
        most = std::max(most, static_cast<int64_t>(y.reads.size() * x.reads.size()));
      }
    }
  }
  return most;
}

}  // namespace fastgan
