// A session's images: from the caller's formats and to them, and those of any size in windows.
#include <string.h>

#include <algorithm>

#include "../divide.h"
#include "../runtime/kernels/kernels.h"
#include "session.h"

namespace fastgan {
namespace {

// Floats to whole numbers from 0 to 255, to even; 0 of a NaN (fastgan/images/pixels.py).
uint8_t to_byte(float value, float low, float scale) {
  float x = (value - low) * scale;
  x = x > 0 ? x : 0;  // a NaN is not
  x = x < 255 ? x : 255;
  return static_cast<uint8_t>((x + 8388608.0f) - 8388608.0f);
}

// Where a place beyond the end of an axis is reflected to, back and forth as often as needed.
int64_t reflected(int64_t at, int64_t length) {
  if (at < length) return at;
  const int64_t period = std::max<int64_t>(1, 2 * (length - 1)), left = at % period;
  return std::min(left, period - left);
}

}  // namespace

// Row `row` of the image input: its size out of an image, from (top, left) on.
void Session::read_image(const void* image, int64_t height, int64_t width, int64_t top,
                         int64_t left, int64_t row) {
  Slot& slot = *first(PortKind::kImage);
  const Port& port = *slot.port;
  const std::vector<int64_t>& sizes = slot.tensor->sizes;
  const int64_t channels = sizes[1], rows = sizes[2], columns = sizes[3];
  const int64_t within = std::min(columns, width - left);  // columns of the image itself
  const bool normed = !port.mean.empty();
  const double low = normed ? 0 : port.ranged ? port.low : -1;
  const double high = normed ? 1 : port.ranged ? port.high : 1;
  const float scale = static_cast<float>((high - low) / 255), shift = static_cast<float>(low);
  float* to = slot.memory.floats() + row * slot.each;
  for (int64_t c = 0; c < channels; ++c) {
    const size_t norm = normed ? std::min(static_cast<size_t>(c), port.mean.size() - 1) : 0;
    for (int64_t y = 0; y < rows; ++y, to += columns) {
      const int64_t line = reflected(top + y, height);
      if (format_ == FASTGAN_FLOAT32) {
        const float* from = static_cast<const float*>(image) + (c * height + line) * width;
        memcpy(to, from + left, static_cast<size_t>(within) * sizeof(float));
        for (int64_t x = within; x < columns; ++x) to[x] = from[reflected(left + x, width)];
        continue;
      }
      const uint8_t* from = static_cast<const uint8_t*>(image) + line * width * channels + c;
      const uint8_t* p = from + left * channels;
      for (int64_t x = 0; x < within; ++x) to[x] = static_cast<float>(p[x * channels]);
      for (int64_t x = within; x < columns; ++x) {
        to[x] = static_cast<float>(from[reflected(left + x, width) * channels]);
      }
      for (int64_t x = 0; x < columns; ++x) to[x] = to[x] * scale + shift;
      if (!normed) continue;
      for (int64_t x = 0; x < columns; ++x) to[x] = (to[x] - port.mean[norm]) / port.std[norm];
    }
  }
}

// A part of an image that was made, to (top, left) of one of this width and height.
void Session::write_image(const float* from, const Part& part, char* to, int64_t height,
                          int64_t width) const {
  const ProgramTensor& tensor = program_.outputs[made_];
  const Port& port = bundle_->outputs[bundle_->made];
  const bool image = tensor.sizes.size() == 4, normed = image && !port.mean.empty();
  const int64_t channels = image ? tensor.sizes[1] : 1;
  const int64_t rows = image ? tensor.sizes[2] : 1, columns = image ? tensor.sizes[3] : width;
  const double low = normed ? 0 : port.low, high = normed ? 1 : port.high;
  const float shift = static_cast<float>(low), scale = static_cast<float>(255.0 / (high - low));
  const int64_t plane = rows * columns;
  for (int64_t y = 0; y < part.height; ++y) {
    const float* p = from + (part.from_y + y) * columns + part.from_x;
    const int64_t line = part.to_y + y;
    uint8_t* bytes = reinterpret_cast<uint8_t*>(to) + (line * width + part.to_x) * channels;
    if (format_ != FASTGAN_FLOAT32 && !normed) {
      kernels().bytes({p, bytes, channels, plane, 0, part.width, shift, scale});
      continue;
    }
    for (int64_t c = 0; c < channels; ++c, p += plane) {
      if (format_ == FASTGAN_FLOAT32) {
        const int64_t at = (c * height + line) * width + part.to_x;
        memcpy(to + at * 4, p, static_cast<size_t>(part.width) * 4);
        continue;
      }
      const size_t norm = std::min(static_cast<size_t>(c), port.mean.size() - 1);
      const float std = port.std[norm], mean = port.mean[norm];
      for (int64_t x = 0; x < part.width; ++x) {
        bytes[x * channels + c] = to_byte(p[x] * std + mean, shift, scale);
      }
    }
  }
}

// Windows of one side: where the next begins, and what of it is kept (fastgan/images/tiling.py).
struct Session::Cuts {
  int64_t length, window, pad, start = 0, keep = 0, stop = 0;

  Cuts(int64_t image, int64_t window, int64_t pad)
      : length(std::max(image, window)), window(window), pad(std::min(pad, (window - 1) / 2)) {}

  bool next() {
    if (stop == length) return false;
    keep = stop;
    start = std::min(std::max<int64_t>(keep - pad, 0), length - window);
    stop = start + window == length ? length : start + window - pad;
    return true;
  }
};

void Session::apply_tiled(const void* image, size_t image_size, int64_t height, int64_t width,
                          int64_t pad, void* out, size_t size) {
  const Slot* slot = image_slot();
  const ProgramTensor& made = program_.outputs[made_];
  if (made.sizes.size() != 4) refuse("apply: the model makes no image");
  if (!bundle_->outputs[bundle_->made].rows && batch() > 1) {
    refuse("apply: the samples of this model run together; prepare a batch of 1 for tiles");
  }
  for (const Slot& other : slots_) {
    const bool guide = other.port->kind == PortKind::kImage || other.port->kind == PortKind::kMask;
    if (&other != slot && guide) refuse("apply: a model of two images runs at its own size alone");
  }
  if (image == nullptr || out == nullptr) refuse("image: NULL");
  constexpr int64_t kMost = 1 << 20;
  if (height < 1 || width < 1 || height > kMost || width > kMost || pad < 0 || pad > kMost) {
    refuse("image: a size out of range");
  }
  const int64_t in_rows = slot->tensor->sizes[2], in_columns = slot->tensor->sizes[3];
  const int64_t out_rows = made.sizes[2], out_columns = made.sizes[3];
  const auto down = [&](int64_t y) { return divide_up(y * out_rows, in_rows); };
  const auto along = [&](int64_t x) { return divide_up(x * out_columns, in_columns); };
  const int64_t tall = down(height), wide = along(width);
  const auto check = [&](const char* name, size_t given, int64_t channels, int64_t y, int64_t x) {
    // In double precision, where no bundle makes it overflow.
    const double needed = (format_ == FASTGAN_UINT8 ? 1.0 : 4.0) * channels * y * x;
    if (static_cast<double>(given) >= needed) return;
    refuse(std::string(name) + ": " + std::to_string(given) + " bytes, needed " +
           std::to_string(static_cast<uint64_t>(std::min(needed, 9e18))));
  };
  check("image", image_size, slot->tensor->sizes[1], height, width);
  check("size", size, made.sizes[1], tall, wide);
  fastgan_request request{};
  request.count = 1;
  check_labels(request);
  for (Slot& other : slots_) {
    if (&other != slot) fill(other, request, 0, 1);
  }
  int64_t waiting = 0;
  const int64_t made_each = made.count() / batch();
  const auto run = [&] {
    if (cancelled.exchange(false)) throw Failure{FASTGAN_CANCELLED, "cancelled"};
    prepared_.run(room_, in_.data(), out_.data());
    for (int64_t i = 0; i < waiting; ++i) {
      write_image(out_[made_] + i * made_each, parts_[i], static_cast<char*>(out), tall, wide);
    }
    waiting = 0;
  };
  for (Cuts y(height, in_rows, pad); y.next();) {
    for (Cuts x(width, in_columns, pad); x.next();) {
      read_image(image, height, width, y.start, x.start, waiting);
      const int64_t to_y = down(y.keep), to_x = along(x.keep);
      parts_[waiting++] = {to_y - down(y.start), to_x - along(x.start),
                           to_y, to_x,
                           std::min(down(y.stop), tall) - to_y, std::min(along(x.stop), wide) - to_x};
      if (waiting == batch()) run();
    }
  }
  if (waiting > 0) run();
}

}  // namespace fastgan
