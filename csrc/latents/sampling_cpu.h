// The CPU sampler's face: all that the bindings need.
#pragma once

#include <string>
#include <vector>

#include "sampling.h"

namespace fastgan {

// The instruction set paths that run on this processor, best first.
std::vector<std::string> path_names();

// Fills job.out. An empty path name takes the best; throws std::invalid_argument for an unknown one.
void sample(const Job& job, uint64_t threads, const std::string& path_name);

}  // namespace fastgan
