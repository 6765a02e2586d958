// Threads that share out the work of one call, stage by stage.
//
// The calling thread takes part, and does everything itself where the others come late: no stage
// waits for a thread, only for the items of it that a thread has taken, and no call for a thread
// that has none. Items that follow each other are one thread's, as long as it is not late, and the
// same part of them in each stage: what it has made last it finds in its own cache. Workers spin for a moment after a call, since the next one often follows at once,
// then sleep. They keep off the calling thread's CPU, which itself stays as it is.
#pragma once

#include <stdint.h>

#include <chrono>
#include <vector>

namespace fastgan {

// Does item `item` of stage `stage`; must not throw.
using Work = void (*)(void* context, int64_t stage, int64_t item);

// Runs the items of each stage in any order, on up to `threads` threads but not on more than the
// calling thread may use CPUs; a stage begins when the one before is done. Safe from any thread:
// a call that finds the workers busy runs on its own thread alone. Safe after fork. Nothing is
// allocated, but for the threads at first and for more stages than any call had before.
void run_stages(const std::vector<int64_t>& items, Work work, void* context, int64_t threads);

// How long the last of many calls of one kind took. Workers that sleep are not woken for one that is
// over before they would be there.
struct Pace {
  std::chrono::nanoseconds took = std::chrono::nanoseconds::max();
};
void run_stages(const std::vector<int64_t>& items, Work work, void* context, int64_t threads,
                Pace& pace);

// Within work: which of the call's threads this is, from 0 to below `threads`.
int64_t this_thread();

// Ends the workers; later calls run on their own threads.
void stop_workers();

}  // namespace fastgan
