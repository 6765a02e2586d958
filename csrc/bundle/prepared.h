// A program of a bundle ready to run: its weights packed, its memory there.
#pragma once

#include <memory>
#include <vector>

#include "../runtime/graph.h"
#include "bundle.h"

namespace fastgan {

class Prepared {
 public:
  // Throws std::invalid_argument where the program is none, std::bad_alloc where memory does not
  // suffice. The bundle is to stay.
  // threads: that pack its weights; bf16: to compute in, for a program.bf16, or fp32.
  Prepared(const Bundle& bundle, const BundleProgram& program, int64_t threads, bool bf16);

  // The memory of a run on up to so many threads, made once and used again.
  class Room {
   public:
    Room(const Prepared& prepared, int64_t threads);

   private:
    friend class Prepared;
    std::unique_ptr<Graph::Room> graph_;
    std::vector<Block> staged_;  // of outputs that do not lie row by row
    std::vector<float*> tensors_;
  };

  // Inputs and outputs as the program lists them, float32 row by row. Nothing is allocated.
  void run(Room& room, const float* const* inputs, float* const* outputs) const;

  const BundleProgram& program() const { return program_; }

 private:
  const BundleProgram& program_;
  std::unique_ptr<Graph> graph_;
  int64_t most_bytes_;
};

}  // namespace fastgan
