// Which form a layer's weights take: which of its phases are filtered as Winograd does
// (winograd.h), and whether its factors are rounded to bf16. It is the one that takes least time
// among those whose error a layer is allowed.
#pragma once

#include <stdint.h>

#include <optional>
#include <vector>

#include "known.h"
#include "layout.h"
#include "product.h"
#include "winograd.h"

namespace fastgan {

// How each phase of a product is filtered, and what all take by `phase_cost`.
struct Forms {
  std::vector<Filtering> filterings;
  double cost = 0;
};

// In bf16 either all phases are filtered, or none: those that are read floats.
// most_minimal: the largest tile that may be taken, in pixels along an axis. most_bytes: that what
// is measured may take; beyond it std::bad_alloc is thrown. pack: elements to a lane, 1 of fp32, 2
// of bf16. numbers: which those of the product are. known: what is measured is put there. Nothing
// of a product without its numbers, where they are needed.
std::optional<Forms> forms_of(const Product& product, const Layout& layout, int64_t most_minimal,
                              int64_t most_bytes, int64_t pack, const Key& numbers, Known& known);

// Whether a product whose inputs are floats takes less time with those and its weights rounded to
// bf16, on a processor with instructions for that. Pairs of them take as long as floats, so half;
// but the inputs are to be rounded, an odd channel is a pair with nothing, and Winograd's filtering
// of floats may take larger tiles. The same for every instruction set, and for any number of
// images. The rest as for `forms_of`.
std::optional<bool> is_faster_in_bf16(const Product& product, int64_t most_minimal,
                                      int64_t most_bytes, const Key& numbers, Known& known);

}  // namespace fastgan
