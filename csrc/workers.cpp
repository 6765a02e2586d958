// See workers.h.
#include "workers.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif
#ifndef _WIN32
#include <unistd.h>
#endif
#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace fastgan {
namespace {

// How long a worker looks for the next call before it sleeps, and a thread for the end of a stage
// before it lets others have its CPU: what a core does meanwhile, another program could use.
constexpr std::chrono::microseconds kSpin(5);

// How often the clock is read while spinning.
constexpr int kLooksPerClock = 8;

constexpr int64_t kMostWorkers = 255;

void pause() {
#ifdef __SSE2__
  _mm_pause();
#endif
}

// Looks until done() or until the time is up; says which.
template <class Done>
bool spin(const Done& done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

thread_local int64_t thread_of_call = 0;

}  // namespace

// Each on a cache line of its own.
struct Counters::Stage {
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<int64_t> done{0};
};

Counters::Counters(int64_t stages) : stages_(new Stage[static_cast<size_t>(stages)]) {}

Counters::~Counters() = default;

struct Call {
  const std::vector<int64_t>& items;
  const Work work;
  void* const context;
  const int64_t workers;  // that may take part
  Counters& counters;

  Call(const std::vector<int64_t>& items, Work work, void* context, int64_t workers,
       Counters& counters)
      : items(items), work(work), context(context), workers(workers), counters(counters) {
    for (size_t s = 0; s < items.size(); ++s) {
      counters.stages_[s].next = 0;
      counters.stages_[s].done = 0;
    }
  }

  // Takes items until the last stage is done.
  void take_part() {
    for (size_t s = 0; s < items.size(); ++s) {
      Counters::Stage& stage = counters.stages_[s];
      for (;;) {
        const int64_t item = stage.next.fetch_add(1, std::memory_order_relaxed);
        if (item >= items[s]) break;
        work(context, static_cast<int64_t>(s), item);
        stage.done.fetch_add(1, std::memory_order_release);
      }
      const auto done = [&] { return stage.done.load(std::memory_order_acquire) >= items[s]; };
      while (!spin(done)) std::this_thread::yield();
    }
  }
};

namespace {

class Workers {
 public:
  // Runs the call if no other one is being run.
  bool run(Call& call) {
    const std::unique_lock<std::mutex> alone(running_, std::try_to_lock);
    if (!alone.owns_lock() || stopping_) return false;
    while (static_cast<int64_t>(threads_.size()) < call.workers) {
      try {
        threads_.emplace_back(&Workers::serve, this, static_cast<int64_t>(threads_.size()));
      } catch (const std::system_error&) {
        break;  // no more threads to be had
      }
    }
    call_ = &call;
    ++calls_;
    if (sleeping_ > 0) {
      { const std::lock_guard<std::mutex> lock(sleep_); }
      wake_.notify_all();
    }
    call.take_part();
    // No worker enters from here on, and the last of those inside leaves as it has found every
    // stage done. (Both sides first write, then look: one sees the other.)
    call_ = nullptr;
    while (!spin([this] { return inside_ == 0; })) std::this_thread::yield();
    return true;
  }

  void stop() {
    const std::lock_guard<std::mutex> alone(running_);
    stopping_ = true;
    ++calls_;
    { const std::lock_guard<std::mutex> lock(sleep_); }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  void serve(int64_t index) {
    uint64_t seen = 0;
    thread_of_call = index + 1;
    while (!stopping_) {
      const auto called = [&] { return calls_ != seen; };
      if (!spin(called)) {
        std::unique_lock<std::mutex> lock(sleep_);
        ++sleeping_;
        wake_.wait(lock, called);
        --sleeping_;
      }
      seen = calls_;
      ++inside_;
      if (Call* call = call_; call != nullptr && index < call->workers) call->take_part();
      --inside_;
    }
  }

  std::mutex running_;  // held by the call that the workers serve
  std::mutex sleep_;
  std::condition_variable wake_;
  std::vector<std::thread> threads_;
  std::atomic<Call*> call_{nullptr};
  std::atomic<uint64_t> calls_{0};
  std::atomic<int64_t> sleeping_{0}, inside_{0};
  std::atomic<bool> stopping_{false};
};

int64_t process() {
#ifdef _WIN32
  return 0;
#else
  return getpid();
#endif
}

// This process's workers. Threads do not survive a fork, so a child has workers of its own; those
// of its parent it must not touch, not even to free them.
Workers& workers() {
  static std::mutex mutex;
  static std::atomic<Workers*> here{nullptr};
  static std::atomic<int64_t> owner{-1};
  if (owner != process()) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (owner != process()) {
      here = new Workers;
      owner = process();
    }
  }
  return *here;
}

int64_t usable_cpus() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return kMostWorkers + 1;
}

}  // namespace

void run_stages(const std::vector<int64_t>& items, Work work, void* context, int64_t threads,
                Counters* counters) {
  const int64_t most = items.empty() ? 0 : *std::max_element(items.begin(), items.end());
  const int64_t useful = std::min({threads, most, kMostWorkers + 1});
  if (useful > 1) {
    const int64_t others = std::min(useful, usable_cpus()) - 1;
    if (others > 0) {
      std::unique_ptr<Counters> own;
      if (counters == nullptr) {
        own = std::make_unique<Counters>(static_cast<int64_t>(items.size()));
        counters = own.get();
      }
      Call call(items, work, context, others, *counters);
      if (workers().run(call)) return;
    }
  }
  for (size_t s = 0; s < items.size(); ++s) {
    for (int64_t i = 0; i < items[s]; ++i) work(context, static_cast<int64_t>(s), i);
  }
}

int64_t this_thread() { return thread_of_call; }

void stop_workers() { workers().stop(); }

}  // namespace fastgan
