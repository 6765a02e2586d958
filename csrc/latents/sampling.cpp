// The CPU sampler: picks a path for this machine and splits the job among threads.
#include "sampling_cpu.h"

#include <algorithm>
#include <functional>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "../targets/compiler.h"

namespace fastgan {
namespace {

// Below this many floats a thread costs more to start than it saves.
constexpr uint64_t kFloatsPerThread = 1 << 17;

std::vector<const Path*> paths() {
  std::vector<const Path*> all;
#ifdef FASTGAN_X86
  all.push_back(&path_avx512);
  all.push_back(&path_avx2);
#endif
#ifdef FASTGAN_VECTORS
  all.push_back(&path_baseline);
#endif
  all.push_back(&path_scalar);
  all.erase(std::remove_if(all.begin(), all.end(), [](const Path* p) { return !p->runs_here(); }),
            all.end());
  return all;
}

const std::vector<const Path*>& paths_here() {
  static const std::vector<const Path*> found = paths();
  return found;
}

const Path& path_named(const std::string& name) {
  if (name.empty()) return *paths_here().front();
  for (const Path* path : paths_here()) {
    if (name == path->name) return *path;
  }
  throw std::invalid_argument("no path '" + name + "' on this processor");
}

// Calls work(job, first, last) on consecutive parts of 0 .. count, one per thread. Where the parts
// meet makes no difference to the result.
void split(const Job& job, void (*work)(const Job&, uint64_t, uint64_t), uint64_t count,
           uint64_t threads) {
  std::vector<std::thread> others;
  const uint64_t part = count / threads;
  try {
    for (uint64_t i = 1; i < threads; ++i) {
      const uint64_t last = i + 1 == threads ? count : (i + 1) * part;
      others.emplace_back(work, std::cref(job), i * part, last);
    }
  } catch (const std::system_error&) {  // no more threads to be had: do the rest here
    work(job, (others.size() + 1) * part, count);
  }
  work(job, 0, threads == 1 ? count : part);
  for (std::thread& other : others) other.join();
}

}  // namespace

std::vector<std::string> path_names() {
  std::vector<std::string> names;
  for (const Path* path : paths_here()) names.push_back(path->name);
  return names;
}

void sample(const Job& job, uint64_t threads, const std::string& path_name) {
  const Path& path = path_named(path_name);
  const uint64_t useful = std::max<uint64_t>(1, job.n * job.size / kFloatsPerThread);
  threads = std::min(std::max<uint64_t>(1, threads), useful);
  split(job, path.fill, job.n * job.blocks_per_sample(), threads);
  if (job.kind == kHypersphere) split(job, path.normalise, job.n, std::min(threads, job.n));
}

}  // namespace fastgan
