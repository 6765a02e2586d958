// The operations of a graph: where their tensors lie, and how their work divides. See kernels.h.
#pragma once

#include <memory>
#include <vector>

#include "../divide.h"
#include "../packing/packing.h"
#include "kernels/kernels.h"
#include "operation.h"

namespace fastgan {

// The tensors of an epilogue.
struct Beside {
  Place residual, scale;
};

class Dense : public Operation {
 public:
  // Finishes `shape`: its reaches, zeros and offsets. weights: where the phases' are not given.
  // packing: what the shape points to, if anything. bf16: whether its weights are, so that the input
  // is rounded first.
  Dense(DenseShape shape, Place in, Place out, Beside beside, Place weights, int64_t weights_image,
        std::shared_ptr<const Packing> packing, bool bf16 = false);
  int64_t stages() const override { return rounds_ > 0 ? 2 : 1; }
  int64_t items(int64_t stage) const override { return stage + 1 == stages() ? items_ : rounds_; }
  int64_t scratch() const override;
  int64_t room() const override { return room_ + (rounds_ > 0 ? 0 : rounding()); }
  int64_t minimal() const override;  // the largest of the phases
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  // How the items of a phase divide, of each unit: into groups of blocks of lanes, and parts of
  // tiles.
  struct Split {
    int64_t blocks, tiles;
    int64_t together = 1;  // blocks that are not parted
    int64_t groups = 1, parts = 1, first_item = 0;

    void divide(int64_t tile);  // tile: what a block of one costs, in multiply-adds
    void even_out();
    int64_t block(int64_t group) const;  // the first of a group
  };
  // An item of a unit.
  struct Item {
    int64_t unit;
    size_t phase;
    int64_t group, part;
  };
  Item find(int64_t item) const;
  int64_t rounding() const;  // floats that the rounded input takes; 0 of one that is not
  void round(const Memory& memory, int64_t first, int64_t last, float* to) const;  // rows of it

  DenseShape shape_;
  bool bf16_;
  bool rounded_;  // whether its input is, to that
  Grid given_;  // the input before it is rounded
  int64_t rows_each_ = 0, rounds_ = 0;  // of the stage that rounds it, if that is one
  Place in_, out_;
  Beside beside_;
  Place weights_;
  std::shared_ptr<const Packing> packing_;
  int64_t weights_image_, units_, items_ = 0;  // units: images with weights of their own, or 1
  int64_t room_ = 0;                           // floats that an item takes, beside its rounded input
  std::vector<Split> splits_;
  bool alike_ = true;  // whether all phases divide alike
  // Whether items that follow each other are of the same pixels, else of the same weights.
  bool pixels_first_ = false;
};

class Depthwise : public Operation {
 public:
  // weights: what the shape points to.
  Depthwise(DepthwiseShape shape, Border border, Place in, Place out, Beside beside,
            std::shared_ptr<const Block> weights);
  int64_t stages() const override { return framed_ ? 2 : 1; }
  int64_t items(int64_t stage) const override;
  int64_t scratch() const override;
  int64_t room() const override;
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  void gather_pixels();
  bool needs_frame() const;
  void add_frame();
  void frame(const Memory& memory, int64_t item) const;

  DepthwiseShape shape_;
  // Whether the input is copied first, with what lies beyond its edges; and if so how it lies.
  bool framed_ = false;
  Grid given_;
  Reach given_rows_, given_columns_;
  int64_t top_ = 0, left_ = 0;  // the first taps
  int64_t lines_each_ = 1;      // of what is copied, to an item
  Place in_, out_;
  Beside beside_;
  std::shared_ptr<const Block> weights_;
  int64_t rows_each_;
};

// The same where an image's channels lie one behind another.
class DepthwisePlanes : public Operation {
 public:
  // Finishes `shape`: its reaches, and how its lines are copied.
  DepthwisePlanes(PlanesShape shape, Border border, Place in, Place out);
  int64_t items(int64_t) const override { return divide_up(planes_ * parts_, each_); }
  int64_t room() const override { return shape_.copied ? (shape_.lines + 1) * shape_.line : 0; }
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  PlanesShape shape_;
  Place in_, out_;
  int64_t planes_, rows_each_, parts_, each_;  // parts: of a plane; each: of those to an item
};

// Any function of elements; with one load alone a copy between any strides.
class Pointwise : public Operation {
 public:
  // strides: of the output and of each tensor, by the dimensions of `sizes`.
  Pointwise(std::vector<int64_t> sizes, std::vector<std::vector<int64_t>> strides,
            std::vector<PointwiseStep> steps, Place out, std::vector<Place> tensors);
  int64_t items(int64_t) const override { return divide_up(size_, kEach); }
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  static constexpr int64_t kEach = 1 << 14;
  PointwiseShape shape_;
  int64_t size_;
  Place out_;
  std::vector<Place> tensors_;
};

// Runs of elements from wherever a table says; -1 stands for the value `fill`.
class Gather : public Operation {
 public:
  Gather(int64_t run, std::vector<int64_t> from, std::vector<int64_t> to, float fill, Place in,
         Place out)
      : run_(run), from_(std::move(from)), to_(std::move(to)), fill_(fill), in_(in), out_(out) {}
  int64_t items(int64_t) const override;
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  int64_t each() const;
  int64_t run_;
  std::vector<int64_t> from_, to_;
  float fill_;
  Place in_, out_;
};

// Rows of a table, by numbers that are whole ones within it; others are brought there.
class Take : public Operation {
 public:
  // step, to: from one row of the table, and of the output, to the next.
  Take(int64_t count, int64_t rows, int64_t run, int64_t step, int64_t to, Place table, Place in,
       Place out)
      : count_(count), rows_(rows), run_(run), step_(step), to_(to), table_(table), in_(in),
        out_(out) {}
  int64_t items(int64_t) const override { return 1; }
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  int64_t count_, rows_, run_, step_, to_;
  Place table_, in_, out_;
};

// Three stages: statistics of chunks of pixels, channel by channel; their merger; the application.
class Norm : public Operation {
 public:
  Norm(NormShape shape, Place in, Place out, Place gamma, Place beta, Place residual);
  int64_t stages() const override { return 3; }
  int64_t items(int64_t stage) const override;
  int64_t scratch() const override;
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  void widen();
  void merge(const Memory& memory, int64_t image) const;
  // Within the scratch: chunk by chunk, then image by image.
  float* chunk(const Memory& memory, int64_t item) const;
  float* image(const Memory& memory, int64_t image) const;

  NormShape shape_;
  Place in_, out_, gamma_, beta_, residual_;
  int64_t beside_ = 1;  // pixels that are taken as channels of one
  int64_t per_chunk_, chunks_;
};

class Rows : public Operation {
 public:
  Rows(RowsShape shape, Place in, Place out, Place gamma, Place beta, Place residual);
  int64_t items(int64_t) const override { return divide_up(shape_.count, each_); }
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  RowsShape shape_;
  Place in_, out_, gamma_, beta_, residual_;
  int64_t each_;
};

class Resample : public Operation {
 public:
  Resample(ResampleShape shape, Place in, Place out);
  int64_t items(int64_t) const override;
  int64_t room() const override;
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  static constexpr int64_t kMostSpan = 1 << 20;
  void join_pixels();
  ResampleShape shape_;
  Place in_, out_;
  int64_t rows_each_;
};

class Reduce : public Operation {
 public:
  Reduce(ReduceShape shape, Place in, Place out);
  int64_t items(int64_t) const override { return divide_up(count_, each_); }
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  ReduceShape shape_;
  Place in_, out_;
  int64_t count_ = 1, each_;
};

// Products of many matrices of few columns, which would leave a vector's lanes empty, or few rows,
// for which packing takes longer than the product.
class Dots : public Operation {
 public:
  Dots(DotsShape shape, Place a, Place b, Place out);
  int64_t items(int64_t) const override { return divide_up(shape_.count, each_); }
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  DotsShape shape_;
  Place a_, b_, out_;
  int64_t each_;  // matrices to an item
};

// Attention in one pass: the scores of all queries are never held. Keys and values are packed first:
// by whoever takes a matrix's rows, or where those are parted, in a stage of its own.
class Attention : public Operation {
 public:
  // scales, biases: see AttentionShape; biases that are not there are no places.
  Attention(AttentionShape shape, Place query, Place key, Place value, Place out, Place scales,
            const Place (&biases)[kMostBiases]);
  int64_t stages() const override { return parts_ > 1 ? 2 : 1; }
  int64_t items(int64_t stage) const override;
  int64_t scratch() const override { return parts_ > 1 ? count_ * (key_floats_ + value_floats_) : 0; }
  int64_t room() const override;
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  int64_t blocks() const { return key_blocks_ + value_blocks_; }
  // Where a matrix is, from the first one on.
  int64_t offset(const Matrices& strides, int64_t matrix) const;
  // A block of lanes of a matrix's keys, and behind those of its values.
  void pack(const Memory& memory, int64_t matrix, int64_t block, float* to) const;
  void attend(const Memory& memory, int64_t matrix, int64_t part, const float* packed,
              float* room) const;

  AttentionShape shape_;
  Place query_, key_, value_, out_, scales_, biases_[kMostBiases];
  int64_t count_ = 1, key_blocks_, value_blocks_, key_floats_, value_floats_;
  int64_t parts_, each_ = 1;  // of a matrix's rows; matrices to an item, where they are whole
};

// A direction of a recurrent layer: a stage for each step of time, of which an item makes some of the
// hidden values, so that threads share a step whatever the batch.
class Recurrent : public Operation {
 public:
  // What goes from step to step, and from image to image, of a sequence.
  struct Steps {
    Place place;
    int64_t step, image;
  };
  // A state [images][hidden], or nothing.
  struct State {
    Place place;
    int64_t image;
  };
  // in: [steps][images] rows of [gates][hidden]. out: the hidden values of each step, or nothing.
  // Initial and last states are hidden values and an LSTM's memory. lengths: [images], or nothing.
  struct Tensors {
    Steps in, out;
    State hidden, memory, last_hidden, last_memory;
    Place weight, bias, peepholes, lengths;
  };

  // packed: the weights as RecurrentShape has them; null: they are of the call, packed in a stage
  // before the others. backwards: from the last step to the first.
  Recurrent(const RecurrentShape& shape, std::shared_ptr<const Block> packed, int64_t steps,
            int64_t images, bool backwards, const Tensors& tensors);
  int64_t stages() const override { return packing() + steps_ * parts_of(shape_.cell); }
  int64_t items(int64_t) const override { return divide_up(blocks_, blocks_each_); }
  int64_t scratch() const override;
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  int64_t packing() const { return packed_ == nullptr ? 1 : 0; }  // stages

  RecurrentShape shape_;
  std::shared_ptr<const Block> packed_;
  int64_t steps_, images_;
  bool backwards_;
  Tensors tensors_;
  int64_t lanes_, blocks_, blocks_each_;
};

// Reads weights that another operation made, as Dense takes them: [blocks][rows][lanes of a block].
class PackWeights : public Operation {
 public:
  // Matrices [count][rows][columns] with any strides.
  PackWeights(int64_t count, int64_t rows, int64_t columns, std::vector<int64_t> strides,
              int64_t lanes, Place in, Place out);
  int64_t items(int64_t) const override { return count_ * blocks_; }
  void run(const Memory& memory, int64_t stage, int64_t item) const override;

 private:
  int64_t count_, rows_, columns_;
  std::vector<int64_t> strides_;
  int64_t lanes_, blocks_;
  Place in_, out_;
};

}  // namespace fastgan
