#include <algorithm>

#include "reader.h"

namespace fastgan {

Matrices Reader::matrices(const AttentionShape& shape) {
  Matrices found;
  for (int64_t d = 0; d < shape.dims; ++d) found.batch[d] = stride();
  found.row = stride(), found.column = stride();
  return found;
}

int64_t Reader::reach(const AttentionShape& shape, const Matrices& as, int64_t rows,
                     int64_t columns) {
  int64_t last = (rows - 1) * as.row;
  require(last <= kMostOffset, "a tensor too large");
  last += (columns - 1) * as.column;
  for (int64_t d = 0; d < shape.dims; ++d) {
    require(last <= kMostOffset, "a tensor too large");
    last += (shape.sizes[d] - 1) * as.batch[d];
  }
  return last;
}

std::shared_ptr<const Operation> Reader::attention() {
  AttentionShape shape{};
  const std::vector<int64_t> sizes = fields_.list(1, kMostSize, "a size out of range");
  shape.dims = static_cast<int64_t>(sizes.size());
  require(shape.dims <= kMostDims, "too many axes");
  std::copy(sizes.begin(), sizes.end(), shape.sizes);
  shape.rows = whole(1, kMostPixels), shape.inner = whole(1, kMostPixels);
  shape.keys = whole(1, kMostPixels), shape.columns = whole(1, kMostPixels);
  shape.scale = fields_.real();
  shape.zeros = flag();
  for (Matrices* as : {&shape.query, &shape.key, &shape.value, &shape.out, &shape.scales}) {
    *as = matrices(shape);
  }
  shape.biases = whole(0, kMostBiases);
  for (int64_t b = 0; b < shape.biases; ++b) shape.bias[b] = matrices(shape);
  Place query = place(), key = place(), value = place(), out = place(), scales = place();
  Place biases[kMostBiases];
  int64_t count = 1;
  const int64_t matrix = (shape.keys + 64) * (shape.inner + shape.columns + 64);  // as packed
  for (const int64_t n : sizes) {
    count *= n;
    require(count <= kMostOffset && count * shape.rows <= kMostOffset, "a tensor too large");
  }
  require(matrix <= kMostOffset && count <= kMostOffset / matrix, "a tensor too large");
  const auto take = [&](Place& from, const Matrices& as, int64_t rows, int64_t columns) {
    // So that no few numbers stand for more work than there is memory.
    require(rows * columns <= slots_.size(from), "elements that share memory");
    read(from, reach(shape, as, rows, columns));
  };
  require(query.given() && key.given() && value.given(), "a tensor that is not there");
  take(query, shape.query, shape.rows, shape.inner);
  take(key, shape.key, shape.inner, shape.keys);
  take(value, shape.value, shape.keys, shape.columns);
  read_if_given(scales, reach(shape, shape.scales, 1, 1));
  for (int64_t b = 0; b < shape.biases; ++b) {
    biases[b] = place();
    read(biases[b], reach(shape, shape.bias[b], shape.rows, shape.keys));
  }
  const int64_t outputs = shape.rows * shape.columns;
  require(outputs <= kMostOffset / count, "a tensor too large");
  write(out, reach(shape, shape.out, shape.rows, shape.columns), count * outputs);
  return std::make_shared<Attention>(shape, query, key, value, out, scales, biases);
}

}  // namespace fastgan
