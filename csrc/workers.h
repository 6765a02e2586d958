// Threads that share out the work of one call, stage by stage.
//
// The calling thread takes part, and does everything itself where the others come late: no stage
// waits for a thread, only for the items of it that a thread has taken. Workers spin for a moment
// after a call, since the next one often follows at once, then sleep.
#pragma once

#include <stdint.h>

#include <memory>
#include <vector>

namespace fastgan {

// Room for the counters of a call's stages, of one call at a time.
class Counters {
 public:
  explicit Counters(int64_t stages);
  ~Counters();

 private:
  friend struct Call;
  struct Stage;
  std::unique_ptr<Stage[]> stages_;
};

// Does item `item` of stage `stage`; must not throw.
using Work = void (*)(void* context, int64_t stage, int64_t item);

// Runs the items of each stage in any order, on up to `threads` threads but not on more than the
// calling thread may use CPUs; a stage begins when the one before is done. Safe from any thread:
// a call that finds the workers busy runs on its own thread alone. Safe after fork. With counters for
// at least so many stages nothing is allocated, but for the threads at first.
void run_stages(const std::vector<int64_t>& items, Work work, void* context, int64_t threads,
                Counters* counters = nullptr);

// Within work: which of the call's threads this is, from 0 to below `threads`.
int64_t this_thread();

// Ends the workers; later calls run on their own threads.
void stop_workers();

}  // namespace fastgan
