// Stages of random numbers of items, from two threads at once. Prints how many items were not done
// once, or before the stage before theirs was over. Arguments: calls of each thread.
#include "workers.h"

#include <stdio.h>
#include <stdlib.h>

#include <atomic>
#include <memory>
#include <random>
#include <thread>

namespace {

std::atomic<int64_t> wrong{0};

struct Stage {
  int64_t items;
  std::atomic<int64_t> left{0};
  std::unique_ptr<std::atomic<int>[]> times;
};

struct Call {
  std::vector<std::unique_ptr<Stage>> stages;
};

void work(void* context, int64_t stage, int64_t item) {
  const Call& call = *static_cast<const Call*>(context);
  for (int64_t s = 0; s < stage; ++s) wrong += call.stages[s]->left != 0;
  Stage& here = *call.stages[stage];
  if (item < 0 || item >= here.items) {
    ++wrong;
    return;
  }
  ++here.times[item];
  for (volatile int64_t i = 0; i < item % 7 * 20; i = i + 1) {
  }
  --here.left;
}

void run(unsigned seed, int64_t calls) {
  std::mt19937 random(seed);
  fastgan::Pace pace;
  for (int64_t c = 0; c < calls; ++c) {
    Call call;
    std::vector<int64_t> items;
    for (unsigned s = 0; s < 1 + random() % 6; ++s) {
      auto stage = std::make_unique<Stage>();
      stage->items = random() % 4 == 0 ? random() % 3 : random() % 40;
      stage->left = stage->items;
      stage->times.reset(new std::atomic<int>[stage->items + 1] {});
      items.push_back(stage->items);
      call.stages.push_back(std::move(stage));
    }
    const int64_t threads = 1 + random() % 5;
    if (random() % 2 == 0) {
      fastgan::run_stages(items, work, &call, threads);
    } else {
      fastgan::run_stages(items, work, &call, threads, pace);
    }
    for (const auto& stage : call.stages) {
      for (int64_t i = 0; i < stage->items; ++i) wrong += stage->times[i] != 1;
    }
    // Some come at once, others when the workers sleep.
    if (random() % 50 == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 60));
    }
  }
}

}  // namespace

int main(int, char** arguments) {
  const int64_t calls = atoll(arguments[1]);
  std::thread other(run, 1, calls);
  run(2, calls);
  other.join();
  run(3, calls);
  fastgan::stop_workers();
  printf("%lld\n", static_cast<long long>(wrong));
  return 0;
}
