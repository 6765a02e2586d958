#include "prepared.h"

#include <new>

namespace fastgan {
namespace {

// Copies a tensor from wherever its elements lie to row by row.
void in_rows(const ProgramTensor& tensor, const float* from, float* to, size_t axis = 0) {
  if (axis == tensor.sizes.size()) {
    *to = *from;
    return;
  }
  const int64_t n = tensor.sizes[axis], step = tensor.strides[axis];
  if (axis + 1 == tensor.sizes.size()) {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i * step];
    return;
  }
  int64_t each = 1;
  for (size_t d = axis + 1; d < tensor.sizes.size(); ++d) each *= tensor.sizes[d];
  for (int64_t i = 0; i < n; ++i) in_rows(tensor, from + i * step, to + i * each, axis + 1);
}

}  // namespace

Prepared::Prepared(const Bundle& bundle, const BundleProgram& program, int64_t threads, bool bf16)
    : program_(program), most_bytes_(bundle.most_bytes()) {
  bundle.weights().share_out(threads);
  Slots slots{program.arena, {}, bundle.constants};
  for (const auto* tensors : {&program.inputs, &program.outputs}) {
    for (const ProgramTensor& tensor : *tensors) slots.tensors.push_back(tensor.count());
  }
  Fields fields(program.records, program.size);
  graph_ = std::make_unique<Graph>(read_operations(fields, slots, bundle.weights(), bf16),
                                   program.arena);
  bundle.file().rest();
}

Prepared::Room::Room(const Prepared& prepared, int64_t threads) {
  if (prepared.graph_->floats(threads) > prepared.most_bytes_ / 4) throw std::bad_alloc();
  graph_ = std::make_unique<Graph::Room>(*prepared.graph_, threads);
  for (const ProgramTensor& tensor : prepared.program_.outputs) {
    staged_.emplace_back(tensor.contiguous() ? 0 : tensor.count() * 4);
  }
  tensors_.resize(prepared.program_.inputs.size() + prepared.program_.outputs.size());
}

void Prepared::run(Room& room, const float* const* inputs, float* const* outputs) const {
  const size_t given = program_.inputs.size();
  for (size_t i = 0; i < given; ++i) room.tensors_[i] = const_cast<float*>(inputs[i]);
  for (size_t i = 0; i < program_.outputs.size(); ++i) {
    const Block& staged = room.staged_[i];
    room.tensors_[given + i] = staged.bytes() > 0 ? staged.floats() : outputs[i];
  }
  graph_->run(*room.graph_, room.tensors_.data(), static_cast<int64_t>(room.tensors_.size()));
  for (size_t i = 0; i < program_.outputs.size(); ++i) {
    const Block& staged = room.staged_[i];
    if (staged.bytes() > 0) in_rows(program_.outputs[i], staged.floats(), outputs[i]);
  }
}

}  // namespace fastgan
