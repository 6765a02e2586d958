// The code of kernels.h for vectors of FASTGAN_WIDTH floats; included by one file for each
// instruction set, under its target pragma.
#pragma once

#include "kernels_attention.h"
#include "kernels_depthwise.h"
#include "kernels_images.h"
#include "kernels_planes.h"
#include "kernels_recurrent.h"
#include "kernels_reduce.h"
#include "kernels_winograd.h"

namespace fastgan {
namespace {

// Elements that a small program is run on at a time.
constexpr int64_t kElements = 512;

// [rows][length] elements, `outer` and `step` apart, one behind another.
template <int64_t kLength>
void fetch_short(const float* p, int64_t rows, int64_t outer, int64_t step, float* to) {
  if (step == 0) {  // a mask that all channels share
    for (int64_t r = 0; r < rows; ++r, p += outer, to += kLength) {
      for (int64_t i = 0; i < kLength; ++i) to[i] = *p;
    }
    return;
  }
  for (int64_t r = 0; r < rows; ++r, p += outer, to += kLength) {
    for (int64_t i = 0; i < kLength; ++i) to[i] = p[i * step];
  }
}

// n elements, every third: a channel of pixels of three. Of so many vectors as a channel's lie in,
// each lane of one vector is in another one's place.
inline void fetch_thirds(const float* p, int64_t n, float* to) {
  alignas(64) int32_t from[kWidth], second[kWidth], third[kWidth];
  for (int i = 0; i < kWidth; ++i) {
    const int at = 3 * i % kWidth, vector = 3 * i / kWidth;
    from[i] = at, second[at] = vector == 1 ? -1 : 0, third[at] = vector == 2 ? -1 : 0;
  }
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth, p += 3 * kWidth) {
    const Vector last = load_some(p + 2 * kWidth, kWidth - 2);  // nothing beyond it is read
    const Vector both = select(load(second), load(p + kWidth), load(p));
    store(to + i, permute(select(load(third), last, both), load(from)));
  }
  for (; i < n; ++i, p += 3) to[i] = *p;
}

// Elements first .. first + n - 1 of a tensor: where they lie, or a copy of them.
const float* fetch(const PointwiseShape& shape, int64_t tensor, const float* from, int64_t first,
                   int64_t n, float* room) {
  if (shape.dense[tensor]) {
    if (n % kWidth == 0) return from + first;
    memcpy(room, from + first, n * sizeof(float));
    return room;
  }
  const int64_t* strides = shape.strides[tensor];
  const int64_t inner = shape.dims - 1, length = shape.sizes[inner], step = strides[inner];
  int64_t index[kMostDims], rest = first, at = 0;
  for (int64_t d = inner; d >= 0; --d) {
    index[d] = rest % shape.sizes[d];
    rest /= shape.sizes[d];
    at += index[d] * strides[d];
  }
  if (step == 1 && index[inner] + n <= length && n % kWidth == 0) return from + at;
  for (int64_t done = 0; done < n;) {
    const int64_t left = length - index[inner], run = left < n - done ? left : n - done;
    float* to = room + done;
    const float* p = from + at;
    const bool few = length == 3 || length == 4 || (length < kWidth && step == 1);
    const bool turned = length > 3 && step > 1 && inner > 0 && strides[inner - 1] == 1;
    if ((few || turned) && inner > 0 && index[inner] == 0 && n - done >= length) {
      // The channels of an image, say: row after row without counting through all dimensions.
      const int64_t outer = strides[inner - 1], there = shape.sizes[inner - 1] - index[inner - 1];
      const int64_t rows = there < (n - done) / length ? there : (n - done) / length;
      if (turned) {
        transpose(p, step, rows, length, to, length);
      } else if (length == 3 || length == 4) {
        (length == 3 ? fetch_short<3> : fetch_short<4>)(p, rows, outer, step, to);
      } else {
        for (int64_t r = 0; r < rows; ++r) {
          store_some(to + r * length, load_some(p + r * outer, length), length);
        }
      }
      done += rows * length;
      at += rows * outer;
      index[inner - 1] += rows;
      for (int64_t d = inner - 1; d >= 0 && index[d] == shape.sizes[d]; --d) {
        at -= shape.sizes[d] * strides[d];
        index[d] = 0;
        if (d > 0) at += strides[d - 1], ++index[d - 1];
      }
      continue;
    }
    if (step == 1) {
      for (int64_t i = 0; i < run; ++i) to[i] = p[i];
    } else if (step == 0) {
      for (int64_t i = 0; i < run; ++i) to[i] = *p;
    } else if (step == 3) {
      fetch_thirds(p, run, to);
    } else {
      for (int64_t i = 0; i < run; ++i) to[i] = p[i * step];
    }
    done += run;
    at -= index[inner] * step;
    index[inner] = 0;
    for (int64_t d = inner - 1; d >= 0; --d) {
      at += strides[d];
      if (++index[d] < shape.sizes[d]) break;
      at -= shape.sizes[d] * strides[d];
      index[d] = 0;
    }
  }
  return room;
}

// The reverse: n values into a tensor with the output's strides.
void put(const PointwiseShape& shape, float* to, int64_t first, int64_t n, const float* values) {
  const int64_t* strides = shape.strides[0];
  const int64_t inner = shape.dims - 1, length = shape.sizes[inner], step = strides[inner];
  int64_t index[kMostDims], rest = first, at = 0;
  for (int64_t d = inner; d >= 0; --d) {
    index[d] = rest % shape.sizes[d];
    rest /= shape.sizes[d];
    at += index[d] * strides[d];
  }
  for (int64_t done = 0; done < n;) {
    const int64_t left = length - index[inner], run = left < n - done ? left : n - done;
    float* p = to + at;
    const float* from = values + done;
    if (step == 1) {
      for (int64_t i = 0; i < run; ++i) p[i] = from[i];
    } else {
      for (int64_t i = 0; i < run; ++i) p[i * step] = from[i];
    }
    done += run;
    at -= index[inner] * step;
    index[inner] = 0;
    for (int64_t d = inner - 1; d >= 0; --d) {
      at += strides[d];
      if (++index[d] < shape.sizes[d]) break;
      at -= shape.sizes[d] * strides[d];
      index[d] = 0;
    }
  }
}

template <class F>
FASTGAN_INLINE void each(float* value, const float* other, int64_t n, const F& function) {
  for (int64_t i = 0; i < n; i += kWidth) {
    store(value + i, function(load(value + i), load(other + i)));
  }
}

void step_of(const PointwiseStep& step, float* value, const float* other, int64_t n) {
  switch (step.code) {
    case Code::kLoad: return each(value, other, n, [&](Vector, Vector b) { return b; });
    case Code::kAdd: return each(value, other, n, [&](Vector a, Vector b) { return a + b; });
    case Code::kSub: return each(value, other, n, [&](Vector a, Vector b) { return a - b; });
    case Code::kRsub: return each(value, other, n, [&](Vector a, Vector b) { return b - a; });
    case Code::kMul: return each(value, other, n, [&](Vector a, Vector b) { return a * b; });
    case Code::kDiv: return each(value, other, n, [&](Vector a, Vector b) { return a / b; });
    case Code::kRdiv: return each(value, other, n, [&](Vector a, Vector b) { return b / a; });
    case Code::kMinimum:  // a NaN of either stays one
      return each(value, other, n, [&](Vector a, Vector b) {
        return select(b != b, b, select(b < a, b, a));
      });
    case Code::kMaximum:
      return each(value, other, n, [&](Vector a, Vector b) {
        return select(b != b, b, select(b > a, b, a));
      });
    case Code::kLeakyRelu:
      return each(value, other, n, [&](Vector a, Vector b) { return negative_part(a, a * b); });
    case Code::kElu:
      return each(value, other, n, [&](Vector a, Vector b) {
        return negative_part(a, b * curve_of(Curve::kElu, 1.0f, a));
      });
    case Code::kSquare: return each(value, value, n, [&](Vector a, Vector) { return a * a; });
    case Code::kCurve:
      return each(value, value, n,
                  [&](Vector a, Vector) { return bend(step.curve, step.number, a); });
  }
}

// Whether elements are but laid out anew, those that lie side by side now having been rows apart.
bool turns(const PointwiseShape& shape) {
  if (shape.steps.size() != 1) return false;
  const PointwiseStep& step = shape.steps.front();
  const int64_t inner = shape.dims - 1;
  if (step.code != Code::kLoad || step.tensor < 0) return false;
  if (!shape.dense[0] || inner < 1 || shape.sizes[inner] < 4) return false;
  const int64_t* strides = shape.strides[step.tensor + 1];
  return strides[inner] > 1 && strides[inner - 1] == 1;
}

// Whole rows of such a tensor from element `first` on, as many as lie side by side; how many
// elements those are.
int64_t turn_rows(const PointwisePart& part, int64_t first) {
  const PointwiseShape& shape = *part.shape;
  const int64_t tensor = shape.steps.front().tensor, inner = shape.dims - 1;
  const int64_t* strides = shape.strides[tensor + 1];
  const int64_t length = shape.sizes[inner];
  if (first % length != 0) return 0;
  const int64_t beside = shape.sizes[inner - 1] - first / length % shape.sizes[inner - 1];
  const int64_t left = (part.last - first) / length, rows = beside < left ? beside : left;
  int64_t at = 0;
  for (int64_t d = inner, rest = first; d >= 0; rest /= shape.sizes[d--]) {
    at += rest % shape.sizes[d] * strides[d];
  }
  transpose(part.tensors[tensor] + at, strides[inner], rows, length, part.out + first, length);
  return rows * length;
}

void pointwise(const PointwisePart& part) {
  const PointwiseShape& shape = *part.shape;
  alignas(64) float value[kElements], room[kElements], kept[kMostKept][kElements];
  const int64_t inner = shape.dims - 1;
  const bool turned = turns(shape);
  for (int64_t first = part.first, n; first < part.last; first += n) {
    n = turned ? turn_rows(part, first) : 0;
    if (n > 0) continue;
    n = part.last - first < kElements ? part.last - first : kElements;
    if (turned) {  // what of a row another part has begun or ends
      const int64_t left = shape.sizes[inner] - first % shape.sizes[inner];
      n = left < n ? left : n;
    }
    for (const PointwiseStep& step : shape.steps) {
      const float* other = room;
      if (step.tensor >= 0) {
        other = fetch(shape, step.tensor + 1, part.tensors[step.tensor], first, n, room);
      } else if (step.kept >= 0) {
        other = kept[step.kept];
      } else if (step.code != Code::kCurve && step.code != Code::kSquare) {
        for (int64_t i = 0; i < n; ++i) room[i] = step.number;
      }
      step_of(step, value, other, n);
      if (step.keep >= 0) memcpy(kept[step.keep], value, sizeof value);
    }
    if (shape.dense[0]) {
      memcpy(part.out + first, value, n * sizeof(float));
    } else if (shape.strides[0][inner] == 1 && first % shape.sizes[inner] + n <= shape.sizes[inner]) {
      int64_t at = 0;
      for (int64_t d = inner, rest = first; d >= 0; rest /= shape.sizes[d--]) {
        at += rest % shape.sizes[d] * shape.strides[0][d];
      }
      memcpy(part.out + at, value, n * sizeof(float));
    } else {
      put(shape, part.out, first, n, value);
    }
  }
}

// Statistics as normalise.cpp takes them: of blocks of pixels, above the image's first one.
void measure(const NormPart& part) {
  const NormShape& shape = *part.shape;
  const int64_t channels = shape.in.channels;
  const float* base = part.in + part.image * shape.in.image;
  const int64_t most = channels > 64 ? divide_up(4096, channels) : 64;
  float *mean = part.mean, *deviation = part.deviation, *here = part.room, *apart = here + channels;
  for (int64_t c = 0; c < channels; ++c) mean[c] = deviation[c] = 0;
  const auto pixel = [&](int64_t p) {
    return base + p / shape.pixels_wide * shape.in.row + p % shape.pixels_wide * shape.in.pixel;
  };
  for (int64_t start = part.first; start < part.last; start += most) {
    const int64_t stop = part.last < start + most ? part.last : start + most;
    for (int64_t c = 0; c < 2 * channels; ++c) here[c] = 0;
    for (int64_t p = start; p < stop; ++p) {
      const float* x = pixel(p);
      for (int64_t c = 0; c < channels; ++c) here[c] += x[c] - base[c];
    }
    const float whole = static_cast<float>(stop - start);
    for (int64_t c = 0; c < channels; ++c) here[c] /= whole;
    for (int64_t p = start; p < stop; ++p) {
      const float* x = pixel(p);
      for (int64_t c = 0; c < channels; ++c) {
        const float d = x[c] - base[c] - here[c];
        apart[c] += d * d;
      }
    }
    const float before = static_cast<float>(start - part.first), share = whole / (before + whole);
    for (int64_t c = 0; c < channels; ++c) {
      const float delta = here[c] - mean[c];
      deviation[c] += apart[c] + delta * delta * (before * share);
      mean[c] += delta * share;
    }
  }
}

void normalise(const NormPart& part) {
  const NormShape& shape = *part.shape;
  const Epilogue& e = shape.epilogue;
  const Grid &in = shape.in, &out = shape.out;
  alignas(64) float values[kElements];
  int64_t y = part.first / shape.pixels_wide, x = part.first % shape.pixels_wide;
  for (int64_t p = part.first; p < part.last; ++p) {
    const float* from = part.in + part.image * in.image + y * in.row + x * in.pixel;
    float* to = part.out + part.image * out.image + y * out.row + x * out.pixel;
    for (int64_t c = 0; c < in.channels; c += kElements) {
      const int64_t n = in.channels - c < kElements ? in.channels - c : kElements;
      int64_t i = 0;
      for (; i + kWidth <= n; i += kWidth) {
        store(values + i, (load(from + c + i) - load(part.centre + c + i)) * load(part.scale + c + i));
      }
      for (; i < n; ++i) values[i] = (from[c + i] - part.centre[c + i]) * part.scale[c + i];
      finish(e, operands(e, part.shift, nullptr, part.residual, part.image, y, x, c), values, n,
             to + c);
    }
    if (++x == shape.pixels_wide) x = 0, ++y;
  }
}

// The sum of function(vector, at, lanes) over a row, in fp32 for kElements at a time.
template <class F>
FASTGAN_INLINE double sum_of(const float* x, int64_t n, const F& function) {
  double total = 0;
  for (int64_t first = 0; first < n; first += kElements) {
    const int64_t last = n - first < kElements ? n : first + kElements;
    Vector sums{};
    int64_t i = first;
    for (; i + kWidth <= last; i += kWidth) sums += function(load(x + i), i, kWidth);
    if (i < last) {
      sums += first_of(function(load_some(x + i, last - i), i, last - i), last - i);
    }
    total += total_of(sums);
  }
  return total;
}

void softmax_of(const float* x, int64_t n, float* y) {
  Vector all = splat(x[0]);
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) all = larger_of(load(x + i), all);
  float most = largest_of(all);
  for (; i < n; ++i) most = x[i] > most ? x[i] : most;
  const double total = sum_of(x, n, [&](Vector a, int64_t at, int64_t lanes) {
    const Vector e = exponential(clamp(a - most, -87.0f, 0.0f));
    if (lanes == kWidth) {
      store(y + at, e);
    } else {
      store_some(y + at, e, lanes);
    }
    return e;
  });
  const float share = static_cast<float>(1 / total);
  for (i = 0; i + kWidth <= n; i += kWidth) store(y + i, load(y + i) * share);
  for (; i < n; ++i) y[i] *= share;
}

// kWidth rows or fewer: their statistics first, so that all have one root and one division.
void normalise_rows(const RowsPart& part, int64_t first, int64_t count) {
  const RowsShape& shape = *part.shape;
  const Epilogue& e = shape.epilogue;
  const int64_t n = shape.channels;
  const double share = 1.0 / static_cast<double>(n);
  alignas(64) float centres[kWidth] = {}, scales[kWidth], values[kElements];
  for (int64_t r = 0; r < kWidth; ++r) scales[r] = 1;
  for (int64_t r = 0; r < count; ++r) {
    const float* x = part.in + (first + r) * shape.in_row;
    double mean = 0;
    if (shape.centre) {  // above the first one, whose digits a common offset would take
      mean = x[0] + sum_of(x, n, [&](Vector a, int64_t, int64_t) { return a - x[0]; }) * share;
    }
    const float centre = static_cast<float>(mean);
    const double square =
        sum_of(x, n, [&](Vector a, int64_t, int64_t) { return (a - centre) * (a - centre); });
    const double apart = mean - centre;
    centres[r] = centre;
    scales[r] = static_cast<float>(square * share - apart * apart + shape.epsilon);
  }
  store(scales, 1.0f / square_root(load(scales)));
  for (int64_t r = 0; r < count; ++r) {
    const float* x = part.in + (first + r) * shape.in_row;
    float* y = part.out + (first + r) * shape.out_row;
    for (int64_t c = 0; c < n; c += kElements) {
      const int64_t m = n - c < kElements ? n - c : kElements;
      int64_t i = 0;
      for (; i + kWidth <= m; i += kWidth) {
        store(values + i, (load(x + c + i) - centres[r]) * scales[r]);
      }
      if (i < m) store(values + i, (load_some(x + c + i, m - i) - centres[r]) * scales[r]);
      finish(e, operands(e, part.beta, part.gamma, part.residual, 0, first + r, 0, c), values, m,
             y + c);
    }
  }
}

void rows_kernel(const RowsPart& part) {
  const RowsShape& shape = *part.shape;
  if (shape.softmax) {
    for (int64_t r = part.first; r < part.last; ++r) {
      softmax_of(part.in + r * shape.in_row, shape.channels, part.out + r * shape.out_row);
    }
    return;
  }
  for (int64_t r = part.first; r < part.last; r += kWidth) {
    normalise_rows(part, r, part.last - r < kWidth ? part.last - r : kWidth);
  }
}

// All of it, under its name.
constexpr Kernels table(const char* name, bool (*runs_here)()) {
  return {name,    kWidth,    kMostRows, runs_here, dense,     winograd,
          depthwise, planes,  pointwise, measure,   normalise, rows_kernel,
          resample, reduce,   dots,      pack,      attention, recurrent, bytes};
}

}  // namespace
}  // namespace fastgan
