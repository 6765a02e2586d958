// A whole plan in one call: operations in order, on threads of workers.h.
//
// Tensors lie where fastgan/engine/native/ placed them: in an arena that those share which live at
// different times. Images lie pixel by pixel (NHWC); every tensor comes with strides, so that a
// slice, a transposition and a place within a concatenation cost nothing.
#pragma once

#include <memory>
#include <vector>

#include "../memory.h"
#include "../workers.h"
#include "operation.h"

namespace fastgan {

class Graph {
 public:
  // arena: its size in floats. The tensors of the caller's are slots 1, 2, ...
  Graph(std::vector<std::shared_ptr<const Operation>> operations, int64_t arena);

  // The memory of a run on up to so many threads, made once and used again.
  class Room {
   public:
    Room(const Graph& graph, int64_t threads);

   private:
    friend class Graph;
    Block memory_;  // arena, scratch, and the rooms of the threads
    std::vector<float*> slots_;
    Pace pace_;
    int64_t threads_;
  };

  // Runs all operations. Nothing is allocated.
  void run(Room& room, float* const* tensors, int64_t count) const;

  // The same in a room of its own; from any thread.
  void run(const std::vector<float*>& tensors, int64_t threads);

  // Runs operations first .. last - 1 alone, in an arena of `floats(threads)` that the caller keeps
  // from one part to the next: for whoever looks at each step.
  void run_some(float* arena, const std::vector<float*>& tensors, int64_t first, int64_t last,
                int64_t threads) const;

  // The largest tile of Winograd's among operations first .. last - 1; 0 where there is none.
  int64_t minimal(int64_t first, int64_t last) const;

  int64_t floats(int64_t threads) const { return arena_ + scratch_ + threads * room_; }

 private:
  // One stage of workers.h: of one operation, or several small ones on one thread, since waiting
  // for each other takes longer than they do.
  struct Stage {
    int64_t first, last;  // operations
    int64_t stage;        // of the operation; all of them where it is less than 0
  };
  struct Run;

  std::vector<std::shared_ptr<const Operation>> operations_;
  std::vector<Stage> stages_;
  std::vector<int64_t> items_;
  int64_t arena_, scratch_ = 0, room_ = 0;
  Spares<Room> rooms_;
};

// Images [images, channels, pixels] as bytes [images, pixels, channels]; see BytesPart.
void to_bytes(const float* in, uint8_t* out, int64_t images, int64_t channels, int64_t pixels,
              float low, float scale, int64_t threads);

// Whether none of n numbers is infinite or NaN.
bool are_finite(const float* numbers, int64_t n);

}  // namespace fastgan
