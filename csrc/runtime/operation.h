// What a graph is made of: operations on tensors of floats that lie in one arena, in tensors of the
// caller's, or in constants. See graph.h.
#pragma once

#include <stdint.h>

namespace fastgan {

// Where a tensor begins, in floats from the start of a slot; or a constant's address.
struct Place {
  static constexpr int64_t kNothing = -2, kConstant = -1, kArena = 0;  // from 1 on the caller's
  int64_t slot = kNothing;
  int64_t offset = 0;

  bool given() const { return slot != kNothing; }
};

// The memory of one run.
struct Memory {
  float* const* slots;
  float* scratch;  // of the operation that is running
  float* rooms;    // of the threads, one after another
  int64_t room;    // floats of each

  float* at(const Place& place) const {
    if (place.slot == Place::kConstant) return reinterpret_cast<float*>(place.offset);
    return place.given() ? slots[place.slot] + place.offset : nullptr;
  }
};

// An operation runs in stages, each of items that may run in any order and at once.
class Operation {
 public:
  virtual ~Operation() = default;
  virtual int64_t stages() const { return 1; }
  virtual int64_t items(int64_t stage) const = 0;
  virtual int64_t scratch() const { return 0; }  // floats
  virtual int64_t room() const { return 0; }     // floats of each thread
  virtual int64_t minimal() const { return 0; }  // pixels of a Winograd tile along an axis, or 0
  virtual void run(const Memory& memory, int64_t stage, int64_t item) const = 0;
};

}  // namespace fastgan
