#include <cmath>

#include "reader.h"

namespace fastgan {

Recurrent::Steps Reader::steps() {
  Recurrent::Steps found{};
  found.step = stride(), found.image = stride();
  return found;
}

std::shared_ptr<const Operation> Reader::recurrent(bool any) {
  RecurrentShape shape{};
  shape.cell = static_cast<Cell>(
      whole(0, static_cast<int64_t>(any ? Cell::kGruResetFirst : Cell::kLstm)));
  const int64_t time = whole(1, kMostPixels), images = size();
  const int64_t hidden = shape.hidden = whole(1, kMostPixels);
  const int64_t gates = gates_of(shape.cell), last = hidden - 1;
  const bool backwards = flag(), lstm = shape.cell == Cell::kLstm;
  Recurrent::Tensors of{};
  of.in = steps(), of.out = steps();
  // Hidden values and memory before, and behind the last step.
  Recurrent::State* const states[] = {&of.hidden, &of.memory, &of.last_hidden, &of.last_memory};
  for (Recurrent::State* state : states) state->image = stride();
  of.weight = place(), of.bias = place(), of.peepholes = place();
  of.in.place = place(), of.out.place = place();
  for (Recurrent::State* state : states) state->place = place();
  if (any) {
    of.lengths = place();
    read_if_given(of.lengths, images - 1);
    for (GateFunction& function : shape.functions) {
      function.curve =
          static_cast<GateCurve>(whole(0, static_cast<int64_t>(GateCurve::kSoftplus)));
      function.alpha = fields_.real();
      function.beta = fields_.real();
    }
    shape.clip = fields_.real();
    shape.couples = flag();
    require(!(shape.clip < 0), "a clip below zero");
    const GateCurve first = shape.cell == Cell::kRnn ? GateCurve::kTanh : GateCurve::kSigmoid;
    shape.usual = shape.functions[0].curve == first &&
                  shape.functions[1].curve == GateCurve::kTanh &&
                  shape.functions[2].curve == GateCurve::kTanh &&
                  shape.clip == INFINITY && !shape.couples;
  }
  require(lstm || (!of.peepholes.given() && !of.memory.place.given() &&
                   !of.last_memory.place.given()),
          "a memory that is none");
  count(images, Grid{time, 1, gates * hidden, 0, 0, 0});
  count(1, Grid{gates, hidden, hidden, 0, 0, 0});
  const auto reach_of = [&](const Recurrent::Steps& steps) {
    return (time - 1) * steps.step + (images - 1) * steps.image + last;
  };
  read(of.weight, gates * hidden * hidden - 1);
  read_if_given(of.bias, gates * hidden - 1);
  read_if_given(of.peepholes, 3 * hidden - 1);
  read(of.in.place, reach_of(of.in) + (gates - 1) * hidden);
  if (of.out.place.given()) write(of.out.place, reach_of(of.out), time * images * hidden);
  for (int i = 0; i < 4; ++i) {
    const int64_t end = (images - 1) * states[i]->image + last;
    if (i < 2) {
      read_if_given(states[i]->place, end);
    } else if (states[i]->place.given()) {
      write(states[i]->place, end, images * hidden);
    }
  }
  std::shared_ptr<const Block> packed;
  if (of.weight.slot == Place::kConstant) {
    packed = weights_.recurrence(reinterpret_cast<const float*>(of.weight.offset), shape.cell,
                                 hidden);
  }
  return std::make_shared<Recurrent>(shape, packed, time, images, backwards, of);
}

}  // namespace fastgan
