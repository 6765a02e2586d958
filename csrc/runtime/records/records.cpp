#include "records.h"

#include "reader.h"

namespace fastgan {
namespace {

// What an operation is, as its record begins.
enum class Kind {
  kDense = 1, kMatrices, kPack, kDepthwise, kPointwise, kGather, kNorm, kRows, kResample, kTake,
  kReduce, kDenseBf16, kDots, kRecurrent, kAttention, kAnyRecurrent, kDepthwisePlanes,
  kLast = kDepthwisePlanes
};

}  // namespace

std::shared_ptr<const Operation> Reader::operation() {
  constexpr auto last = static_cast<int64_t>(Kind::kLast);
  switch (static_cast<Kind>(fields_.whole(1, last, "an operation of no known kind"))) {
    case Kind::kDense: return dense(bf16_);
    case Kind::kDenseBf16: return dense(true);
    case Kind::kMatrices: return matrices();
    case Kind::kPack: return pack();
    case Kind::kDepthwise: return depthwise();
    case Kind::kPointwise: return pointwise();
    case Kind::kGather: return gather();
    case Kind::kNorm: return norm();
    case Kind::kRows: return rows();
    case Kind::kResample: return resample();
    case Kind::kTake: return take();
    case Kind::kReduce: return reduce();
    case Kind::kDots: return dots();
    case Kind::kRecurrent: return recurrent(false);
    case Kind::kAttention: return attention();
    case Kind::kAnyRecurrent: return recurrent(true);
    case Kind::kDepthwisePlanes: return depthwise_planes();
  }
  throw std::invalid_argument("an operation of no known kind");
}

int64_t Slots::size(const Place& place) const {
  if (place.slot == Place::kArena) return arena;
  const int64_t tensor = place.slot - 1, constant = place.slot - kConstants;
  if (tensor >= 0 && tensor < static_cast<int64_t>(tensors.size())) return tensors[tensor];
  if (constant >= 0 && constant < static_cast<int64_t>(constants.size())) {
    return constants[constant].size;
  }
  throw std::invalid_argument("a place that is none");
}

std::vector<std::shared_ptr<const Operation>> read_operations(Fields& fields, const Slots& slots,
                                                              Weights& weights, bool bf16) {
  Reader reader(fields, slots, weights, bf16);
  std::vector<std::shared_ptr<const Operation>> found;
  while (!fields.done()) found.push_back(reader.operation());
  return found;
}

}  // namespace fastgan
