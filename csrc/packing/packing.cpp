#include "packing.h"

#include <string.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>

#include "../divide.h"
#include "../processor.h"
#include "../workers.h"
#include "bfloat16.h"
#include "forms.h"
#include "layout.h"
#include "source.h"

namespace fastgan {
namespace {

// What fastgan/engine/native/ takes is far below.
constexpr size_t kMostPacked = 1 << 16;

// Weights that are packed at a time, so that what they are read from stays in a cache.
constexpr int64_t kChunk = 1 << 16;

Sign sign_of(float weight) {
  if (is_none(weight)) return kNoWeight;
  return weight > 0 ? kPositive : weight < 0 ? kNegative : kZero;
}

uint16_t weight_in_bf16(float value) {
  const uint16_t rounded = to_bfloat16(value);
  return rounded == 0x8000 && !is_none(value) ? 0 : rounded;  // it is small, not none
}

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
    const int64_t blocks = divide_up(lanes, block), places = filtering.places();
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
            const int64_t groups = divide_up(channels, pack);
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

// By which weights of the same layout are found.
Key layout_key(const Product& product, const Layout& layout, const Forms& forms, int64_t width,
               int64_t pack, const Key& numbers) {
  Key key = numbers;
  add_shape(key, product);
  key.add(layout.height).add(layout.width).add(layout.vectors).add(width).add(pack);
  for (const Filtering& of : forms.filterings) key.add(of.pixels).add(of.taps).add(of.stride);
  key.add(layout.rows.size());
  for (const AxisPhase& y : layout.rows) add_taps(key, y);
  for (const AxisPhase& x : layout.columns) add_taps(key, x);
  return key;
}

// All but where weights and bias lie.
Packing unfilled(const Product& product, const Layout& layout, const Forms& forms, int64_t pack) {
  const Axis &rows = product.rows, &columns = product.columns;
  const int64_t by = product.block_height, bx = product.block_width;
  Packing packing{};
  packing.in_height = rows.inputs, packing.in_width = columns.inputs;
  packing.in_channels = product.channels;
  packing.out_height = by * rows.outputs, packing.out_width = bx * columns.outputs;
  packing.out_channels = product.outputs;
  packing.vectors = layout.vectors;
  packing.in_step_y = layout.rows[0].input_step, packing.in_step_x = layout.columns[0].input_step;
  packing.out_step_y = by * layout.rows[0].output_step;
  packing.out_step_x = bx * layout.columns[0].output_step;
  packing.patch_height = by * layout.height, packing.patch_width = bx * layout.width;
  packing.pack = pack;
  for (const AxisPhase& y : layout.rows) {
    for (const AxisPhase& x : layout.columns) {
      if (y.reads.size() * x.reads.size() > kMostPacked) {
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
  return packing;
}

// As `Packing` has it: by the lanes of a patch.
void fill_bias(const Product& product, const Packing& packing, float* to) {
  const int64_t* s = product.bias_strides;
  for (int64_t y = 0; y < packing.patch_height; ++y) {
    for (int64_t x = 0; x < packing.patch_width; ++x) {
      const int64_t row = product.linear ? y : y % product.block_height;
      const int64_t column = product.linear ? x : x % product.block_width;
      for (int64_t o = 0; o < product.outputs; ++o) {
        *to++ = product.bias[row * s[0] + column * s[1] + o * s[2]];
      }
    }
  }
}

}  // namespace

std::unique_ptr<Packing> pack(const Product& product, int64_t width, int64_t pack,
                              int64_t most_minimal, int64_t threads, int64_t most_bytes,
                              const Key& numbers, Known& known) {
  // In bf16 every processor is to filter alike, so as one does.
  Layout layout = layout_of(product, pack == 1 ? width : kNominal);
  std::optional<Forms> forms =
      forms_of(product, layout, most_minimal, most_bytes, pack, numbers, known);
  if (!forms.has_value()) return nullptr;
  if (pack > 1 && forms->filterings[0].pixels > 0) {
    layout = in_blocks(std::move(layout), width);
  } else if (pack > 1) {
    layout = layout_of(product, width);
    forms->filterings.assign(layout.rows.size() * layout.columns.size(), {});
  }
  std::weak_ptr<const Block>& shared =
      known.blocks[layout_key(product, layout, *forms, width, pack, numbers).text()];
  std::shared_ptr<const Block> memory = shared.lock();
  const bool is_new = memory == nullptr;
  const bool biased = product.bias != nullptr || product.bias_number != 0;
  if (is_new && (product.weight == nullptr || (biased && product.bias == nullptr))) return nullptr;

  // The phases first, and then memory for all of them.
  auto found = std::make_unique<Packing>(unfilled(product, layout, *forms, pack));
  Packing& packing = *found;
  const int64_t block = layout.vectors * width, lanes = divide_up(layout.lanes, block) * block;
  std::vector<int64_t> offsets, signs;
  int64_t bytes = 0;
  const auto take = [&](int64_t rows) {  // of float32, `lanes` each
    if (is_new) check_room(rows, lanes, most_bytes - bytes);
    const int64_t at = bytes;
    bytes = divide_up(bytes + 4 * rows * lanes, 64) * 64;
    return at;
  };
  for (const PackedPhase& phase : packing.phases) {
    const Filtering& of = phase.filtering;
    const int64_t taps = static_cast<int64_t>(phase.taps.size());
    const int64_t places = of.pixels > 0 ? of.places() * of.parts() : taps;
    offsets.push_back(take(places * divide_up(product.channels, pack)));
    signs.push_back(take(of.pixels > 0 ? divide_up(taps * product.channels, 4) : 0));  // bytes
  }
  const int64_t bias_at = take(biased ? 1 : 0);
  if (is_new) shared = memory = std::make_shared<const Block>(bytes);
  packing.memory = memory;

  size_t p = 0;
  for (const AxisPhase& y : layout.rows) {
    for (const AxisPhase& x : layout.columns) {
      PackedPhase& phase = packing.phases[p];
      char* const out = memory->data() + offsets[p];
      int8_t* const sign = reinterpret_cast<int8_t*>(memory->data() + signs[p++]);
      phase.weights = out;
      if (phase.filtering.pixels > 0) phase.signs = sign;
      const Source source(product, layout, y, x);
      const int64_t taps = static_cast<int64_t>(phase.taps.size());
      phase.sparse = source.sparse();
      if (!is_new) continue;
      const int64_t each = std::max<int64_t>(1, taps * layout.lanes);
      const int64_t chunk = std::clamp<int64_t>(kChunk / each, 1, 64) * pack;
      Job job{source,          layout.lanes, block, taps, product.channels, pack,
              phase.filtering, chunk,        out,   sign};
      const auto work = [](void* context, int64_t, int64_t item) {
        static_cast<const Job*>(context)->run(item);
      };
      run_stages({divide_up(product.channels, chunk)}, work, &job, threads);
    }
  }
  if (biased) {
    float* const bias = reinterpret_cast<float*>(memory->data() + bias_at);
    packing.bias = bias;
    if (is_new) fill_bias(product, packing, bias);
  }
  return found;
}

}  // namespace fastgan
