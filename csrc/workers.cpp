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
#include <pthread.h>
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

// How long a worker looks for the next call before it sleeps: what a core does meanwhile, another
// program could use.
constexpr std::chrono::microseconds kSpin(5);

// The same where the last call came within this of the one before: a program that calls a small
// network over and over does something of its own between.
constexpr std::chrono::microseconds kOften(15);

// A call that takes less is over before a thread that sleeps would be there.
constexpr std::chrono::microseconds kWorthWaking(40);

// How long a thread looks for the end of a stage before it sleeps. Items take some 5 microseconds;
// one that takes longer most likely has lost its CPU to another program, for milliseconds.
constexpr std::chrono::microseconds kPatience(50);

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
bool spin(std::chrono::microseconds time, const Done& done) {
  const auto end = std::chrono::steady_clock::now() + time;
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

thread_local int64_t thread_of_call = 0;

// Two halves of a word that change as one: which stage it is about, and a number.
struct Count {
  uint32_t stage, number;

  static Count of(uint64_t word) {
    return {static_cast<uint32_t>(word >> 32), static_cast<uint32_t>(word)};
  }
  uint64_t word() const { return uint64_t{stage} << 32 | number; }

  // Whether it is about a later stage than this one. They are counted through all calls, and begin
  // again after 2^32.
  bool is_beyond(uint32_t other) const { return static_cast<int32_t>(stage - other) > 0; }
};

// A word on a cache line of its own.
struct alignas(64) Line {
  std::atomic<uint64_t> word{0};
};

struct Call {
  uint32_t number;               // its first stage is the one after this
  int64_t stages, threads;       // threads: that may take part, the calling one included
  std::atomic<uint32_t>* items;  // of each stage
  Work work;
  void* context;
};

struct Stage {
  int64_t index;    // of the call's
  uint32_t number;  // of all calls'
  uint32_t items;
};

class Workers {
 public:
  // Runs the call if no other one is being run.
  bool run(const std::vector<int64_t>& items, Work work, void* context, int64_t workers, bool wake) {
    const std::unique_lock<std::mutex> alone(running_, std::try_to_lock);
    if (!alone.owns_lock() || stopping_) return false;
    while (static_cast<int64_t>(threads_.size()) < workers) {
      try {
        threads_.emplace_back(&Workers::serve, this, static_cast<int64_t>(threads_.size()));
        away_from_ = -1;
      } catch (const std::system_error&) {
        break;  // no more threads to be had
      }
    }
    // One that is woken then stays awake until the last of such calls.
    often_ = std::chrono::steady_clock::now() - ended_ < kOften;
    wake = wake || often_;
    if (wake) keep_away();
    const Call call = publish(items, work, context, 1 + workers);
    if (wake && sleeping_ > 0) {
      { const std::lock_guard<std::mutex> lock(sleep_); }
      wake_.notify_all();
    }
    take_part(call, 0);
    ended_ = std::chrono::steady_clock::now();
    return true;
  }

  void stop() {
    const std::lock_guard<std::mutex> alone(running_);
    stopping_ = true;
    { const std::lock_guard<std::mutex> lock(sleep_); }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  // A worker that is late, or loses its CPU while it has no item, holds nobody up: a call ends
  // without it. So what it looks at then outlives the call, and may be the next one's already, which
  // it knows by the number: `begun_` goes first when a call is written, `published_` last.
  Call publish(const std::vector<int64_t>& items, Work work, void* context, int64_t threads) {
    const int64_t count = static_cast<int64_t>(items.size());
    const uint32_t number = begun_ + static_cast<uint32_t>(stages_) + 1;
    begun_ = number;
    if (count > room_) {
      room_ = 2 * count;
      kept_.emplace_back(new std::atomic<uint32_t>[static_cast<size_t>(room_)]);
    }
    std::atomic<uint32_t>* const of = kept_.back().get();
    for (int64_t s = 0; s < count; ++s) {
      of[s].store(static_cast<uint32_t>(items[s]), std::memory_order_release);
    }
    const uint64_t none = Count{number, 0}.word();
    for (int64_t t = 0; t < threads; ++t) left_[t].word.store(none, std::memory_order_release);
    done_.word.store(none, std::memory_order_release);
    stages_.store(count, std::memory_order_release);
    threads_of_call_.store(threads, std::memory_order_release);
    items_.store(of, std::memory_order_release);
    work_.store(work, std::memory_order_release);
    context_.store(context, std::memory_order_release);
    published_ = number;
    return {number, count, threads, of, work, context};
  }

  void serve(int64_t index) {
    uint32_t seen = 0;
    thread_of_call = index + 1;
    while (!stopping_) {
      const auto called = [&] { return published_ != seen || stopping_; };
      if (!spin(often_ ? kOften : kSpin, called)) {
        std::unique_lock<std::mutex> lock(sleep_);
        ++sleeping_;
        wake_.wait(lock, called);
        --sleeping_;
      }
      seen = published_;
      const Call call{seen, stages_, threads_of_call_, items_, work_, context_};
      if (begun_ == seen && 1 + index < call.threads) take_part(call, 1 + index);
    }
  }

  // Does items until the last stage is done, or the call is over. Each thread has a share of every
  // stage, items that follow each other: what they read was most often its own in the stage before,
  // and lies in its cache. Once done with that, it takes from the others'.
  void take_part(const Call& call, int64_t thread) {
    for (int64_t s = 0; s < call.stages; ++s) {
      const Stage stage{s, call.number + 1 + static_cast<uint32_t>(s),
                        call.items[s].load(std::memory_order_acquire)};
      if (begun_ != call.number) return;
      if (stage.items == 0) continue;
      // What another thread writes takes its time to come over, so that no look is taken at the
      // others' shares where nothing is left.
      add(stage, take(call, stage, thread));
      for (int64_t t = 1; t < call.threads && !is_done(stage); ++t) {
        add(stage, take(call, stage, (thread + t) % call.threads));
      }
      const auto done = [&] { return is_done(stage); };
      if (spin(kPatience, done)) continue;
      std::unique_lock<std::mutex> lock(sleep_);
      ++waiting_;
      stage_done_.wait(lock, done);
      --waiting_;
    }
  }

  // Does what is left of a thread's share; how many items that was.
  uint32_t take(const Call& call, const Stage& stage, int64_t thread) {
    const int64_t first = share(stage.items, thread, call.threads);
    const int64_t last = share(stage.items, thread + 1, call.threads);
    if (first == last) return 0;
    std::atomic<uint64_t>& left = left_[thread].word;
    uint32_t done = 0;
    for (uint64_t word = left;;) {
      const Count found = Count::of(word);
      if (found.is_beyond(stage.number)) return done;
      const bool begun = found.stage == stage.number;
      const uint32_t some = begun ? found.number : static_cast<uint32_t>(last - first);
      if (some == 0) return done;
      if (!left.compare_exchange_weak(word, Count{stage.number, some - 1}.word())) continue;
      call.work(call.context, stage.index, last - some);  // the call goes on until it is counted
      ++done;
      word = left;
    }
  }

  // The first item of a thread's share.
  static int64_t share(int64_t items, int64_t thread, int64_t threads) {
    return (items * thread + threads - 1) / threads;
  }

  // Counts items of a stage as done.
  void add(const Stage& stage, uint32_t some) {
    if (some == 0) return;
    uint64_t word = done_.word;
    Count now{};
    do {
      const Count found = Count::of(word);
      now = {stage.number, some + (found.stage == stage.number ? found.number : 0)};
    } while (!done_.word.compare_exchange_weak(word, now.word()));
    if (now.number == stage.items && waiting_ > 0) {
      { const std::lock_guard<std::mutex> lock(sleep_); }
      stage_done_.notify_all();
    }
  }

  bool is_done(const Stage& stage) const {
    const Count found = Count::of(done_.word);
    return found.is_beyond(stage.number) ||
           (found.stage == stage.number && found.number == stage.items);
  }

  // Has the workers run on other CPUs than the calling thread's. Where all are taken, a thread that
  // wakes another most often gets it beside itself, and the two then take turns.
  void keep_away() {
#if defined(__linux__) && !defined(__ANDROID__)
    const int here = sched_getcpu();
    if (here < 0 || here == away_from_) return;
    cpu_set_t others;
    if (sched_getaffinity(0, sizeof others, &others) != 0) return;
    CPU_CLR(here, &others);
    if (CPU_COUNT(&others) == 0) return;
    for (std::thread& thread : threads_) {
      pthread_setaffinity_np(thread.native_handle(), sizeof others, &others);
    }
    away_from_ = here;
#endif
  }

  std::mutex running_;  // held by the call that the workers serve
  std::mutex sleep_;
  std::condition_variable wake_, stage_done_;
  std::vector<std::thread> threads_;
  int away_from_ = -1;
  std::chrono::steady_clock::time_point ended_{};  // the last call
  std::atomic<bool> often_{false};
  int64_t room_ = 0;  // stages that there is memory for
  std::vector<std::unique_ptr<std::atomic<uint32_t>[]>> kept_;
  // Items of the stage that each thread's share has left, until somebody begins it those of an
  // earlier one; and the items of a stage that are done.
  Line left_[kMostWorkers + 1];
  Line done_;
  std::atomic<uint32_t> begun_{0}, published_{0};
  std::atomic<int64_t> stages_{0}, threads_of_call_{0};
  std::atomic<std::atomic<uint32_t>*> items_{nullptr};
  std::atomic<Work> work_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<int64_t> sleeping_{0}, waiting_{0};
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

namespace {

void run_stages(const std::vector<int64_t>& items, Work work, void* context, int64_t threads,
                bool wake) {
  const int64_t most = items.empty() ? 0 : *std::max_element(items.begin(), items.end());
  const int64_t useful = std::min({threads, most, kMostWorkers + 1});
  if (useful > 1 && most <= UINT32_MAX) {
    const int64_t others = std::min(useful, usable_cpus()) - 1;
    if (others > 0 && workers().run(items, work, context, others, wake)) return;
  }
  for (size_t s = 0; s < items.size(); ++s) {
    for (int64_t i = 0; i < items[s]; ++i) work(context, static_cast<int64_t>(s), i);
  }
}

}  // namespace

void run_stages(const std::vector<int64_t>& items, Work work, void* context, int64_t threads) {
  run_stages(items, work, context, threads, true);
}

void run_stages(const std::vector<int64_t>& items, Work work, void* context, int64_t threads,
                Pace& pace) {
  const auto begin = std::chrono::steady_clock::now();
  run_stages(items, work, context, threads, pace.took >= kWorthWaking);
  pace.took = std::chrono::steady_clock::now() - begin;
}

int64_t this_thread() { return thread_of_call; }

void stop_workers() { workers().stop(); }

}  // namespace fastgan
