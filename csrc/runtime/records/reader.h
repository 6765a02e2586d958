// What untrusted records are read by: fields within limits, places within their memory, and with
// these the operations, each in the file of its kind.
#pragma once

#include <memory>

#include "../kernels/kernels.h"
#include "../operations.h"
#include "records.h"

namespace fastgan {

// Larger than anything real, and small enough that sums of a few products of a size and a stride fit,
// and that of an offset and a size.
constexpr int64_t kMostSize = int64_t{1} << 28, kMostStride = int64_t{1} << 32;
constexpr int64_t kMostOffset = int64_t{1} << 34;

// Along an axis: pixels, and how far a tap may lie from its pixel.
constexpr int64_t kMostPixels = 1 << 20, kMostReach = 1 << 20;

// What the geometry of an axis may take to be found.
constexpr int64_t kMostSearch = 1 << 22;

struct DenseRecord {
  Product product;
  int64_t most_minimal, images;
  Grid in, out;
  Border border;
  Epilogue epilogue;
  Place x, y;
  Beside beside;
};

class Reader {
 public:
  Reader(Fields& fields, const Slots& slots, Weights& weights, bool bf16)
      : fields_(fields), slots_(slots), weights_(weights), bf16_(bf16) {}

  // The next operation.
  std::shared_ptr<const Operation> operation();

 private:
  // Fields.

  int64_t whole(int64_t least, int64_t most) {
    return fields_.whole(least, most, "a number out of range");
  }
  int64_t size() { return whole(1, kMostSize); }
  int64_t stride() { return whole(0, kMostStride); }
  bool flag() { return fields_.flag("a flag that is none"); }

  Place place();
  Grid grid();
  Border border() { return static_cast<Border>(whole(0, 2)); }
  Curve curve() { return static_cast<Curve>(whole(0, static_cast<int64_t>(Curve::kCos))); }
  Epilogue epilogue(int64_t channels);
  Axis axis();
  Product product();

  // Places.

  // The elements of images.
  static int64_t count(int64_t images, const Grid& g);
  // How far its taps reach, at the most.
  static int64_t reach(const Axis& axis) {
    const int64_t step = axis.transposed ? 1 : axis.stride;
    const int64_t pad = axis.pad < 0 ? -axis.pad : axis.pad;
    return (axis.outputs - 1) * step + axis.dilation * axis.kernel + pad;
  }
  // The last element of images.
  static int64_t reach(int64_t images, const Grid& g) {
    return (images - 1) * g.image + (g.height - 1) * g.row + (g.width - 1) * g.pixel +
           g.channels - 1;
  }
  void inside(const Place& place, int64_t last) const;
  void read(Place& place, int64_t last) const {
    inside(place, last);
    settle(place);
  }
  void read_if_given(Place& place, int64_t last) const {
    if (place.given()) read(place, last);
  }
  // count: the elements, each of which is to have a place of its own.
  void write(const Place& place, int64_t last, int64_t count) const;
  // A constant as operations have it: its address.
  void settle(Place& place) const;
  // number: is told which numbers they are; null where they have to be there.
  const float* constant(const Place& place, int64_t last, int64_t* number = nullptr) const;
  void beside(const Epilogue& e, Beside& with, int64_t images, const Grid& out) const;

  // Operations.

  DenseRecord dense_record();
  std::shared_ptr<const Operation> dense(bool bf16);
  std::shared_ptr<const Operation> matrices();
  std::shared_ptr<const Operation> pack();
  std::shared_ptr<const Operation> depthwise();
  Planes planes();
  std::shared_ptr<const Operation> depthwise_planes();

  std::shared_ptr<const Operation> norm();
  std::shared_ptr<const Operation> rows();

  std::shared_ptr<const Operation> pointwise();
  std::shared_ptr<const Operation> gather();
  std::shared_ptr<const Operation> take();
  ResampleAxis resample_axis(int64_t* last);
  std::shared_ptr<const Operation> resample();
  std::shared_ptr<const Operation> reduce();
  std::shared_ptr<const Operation> dots();

  Recurrent::Steps steps();
  // Any cell, with functions of its own, sequences of several lengths, or weights that are made.
  std::shared_ptr<const Operation> recurrent(bool any);

  // Strides of a batch, of rows and columns.
  Matrices matrices(const AttentionShape& shape);
  // The last element of a batch of matrices.
  static int64_t reach(const AttentionShape& shape, const Matrices& as, int64_t rows,
                       int64_t columns);
  std::shared_ptr<const Operation> attention();

  Fields& fields_;
  const Slots& slots_;
  Weights& weights_;
  bool bf16_;  // whether products are to be in it
};

}  // namespace fastgan
