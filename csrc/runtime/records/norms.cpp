#include "reader.h"

namespace fastgan {

std::shared_ptr<const Operation> Reader::norm() {
  NormShape shape{};
  shape.images = size();
  shape.groups = size();
  shape.in = grid();
  shape.out = grid();
  shape.pixels_high = shape.in.height, shape.pixels_wide = shape.in.width;
  shape.centre = flag();
  shape.epsilon = fields_.number();
  shape.gamma_image = stride();
  shape.beta_image = stride();
  const int64_t channels = shape.in.channels;
  shape.epilogue = epilogue(channels);
  Place x = place(), y = place(), gamma = place(), beta = place(), residual = place();
  require(channels % shape.groups == 0, "channels that do not divide into groups");
  require(shape.out.height == shape.in.height && shape.out.width == shape.in.width &&
              shape.out.channels == channels,
          "a norm of another size");
  read(x, reach(shape.images, shape.in));
  write(y, reach(shape.images, shape.out), count(shape.images, shape.out));
  read_if_given(gamma, (shape.images - 1) * shape.gamma_image + channels - 1);
  read_if_given(beta, (shape.images - 1) * shape.beta_image + channels - 1);
  Beside with{residual, {}};
  beside(shape.epilogue, with, shape.images, shape.out);
  return std::make_shared<Norm>(shape, x, y, gamma, beta, with.residual);
}

std::shared_ptr<const Operation> Reader::rows() {
  RowsShape shape{};
  shape.count = size();
  shape.channels = size();
  shape.in_row = stride();
  shape.out_row = stride();
  shape.softmax = flag();
  shape.centre = flag();
  shape.epsilon = fields_.number();
  shape.epilogue = epilogue(shape.channels);
  Place x = place(), y = place(), gamma = place(), beta = place(), residual = place();
  const int64_t last = shape.channels - 1;
  read(x, (shape.count - 1) * shape.in_row + last);
  write(y, (shape.count - 1) * shape.out_row + last, shape.count * shape.channels);
  read_if_given(gamma, last);
  read_if_given(beta, last);
  Beside with{residual, {}};
  beside(shape.epilogue, with, 1, Grid{shape.count, 1, shape.channels, 0, 0, 0});
  return std::make_shared<Rows>(shape, x, y, gamma, beta, with.residual);
}

}  // namespace fastgan
