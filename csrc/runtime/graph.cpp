#include "graph.h"

#include <string.h>

#include <algorithm>

#include "../divide.h"

namespace fastgan {

struct Graph::Run {
  const Graph& graph;
  Memory memory;
};

Graph::Graph(std::vector<std::shared_ptr<const Operation>> operations, int64_t arena)
    : operations_(std::move(operations)), arena_(divide_up(arena, 16) * 16) {
  bool alone = false;  // whether the last stage is of small operations
  for (int64_t i = 0; i < static_cast<int64_t>(operations_.size()); ++i) {
    const Operation& operation = *operations_[i];
    scratch_ = std::max(scratch_, divide_up(operation.scratch(), 16) * 16);
    room_ = std::max(room_, operation.room());
    bool small = true;
    for (int64_t s = 0; s < operation.stages(); ++s) small = small && operation.items(s) <= 1;
    if (small && alone) {
      stages_.back().last = i + 1;
    } else if (small) {
      stages_.push_back({i, i + 1, -1});
      items_.push_back(1);
    } else {
      for (int64_t s = 0; s < operation.stages(); ++s) {
        stages_.push_back({i, i + 1, s});
        items_.push_back(operation.items(s));
      }
    }
    alone = small;
  }
}

Graph::Room::Room(const Graph& graph, int64_t threads)
    : memory_(graph.floats(threads) * static_cast<int64_t>(sizeof(float))),
      threads_(threads) {}

void Graph::run(Room& room, float* const* tensors, int64_t count) const {
  float* const arena = room.memory_.floats();
  room.slots_.assign(1, arena);
  room.slots_.insert(room.slots_.end(), tensors, tensors + count);
  Run run{*this, {room.slots_.data(), arena + arena_, arena + arena_ + scratch_, room_}};
  const auto work = [](void* context, int64_t index, int64_t item) {
    const Run& run = *static_cast<const Run*>(context);
    const Stage& stage = run.graph.stages_[index];
    if (stage.stage >= 0) {
      return run.graph.operations_[stage.first]->run(run.memory, stage.stage, item);
    }
    for (int64_t i = stage.first; i < stage.last; ++i) {
      const Operation& operation = *run.graph.operations_[i];
      for (int64_t s = 0; s < operation.stages(); ++s) {
        if (operation.items(s) > 0) operation.run(run.memory, s, 0);
      }
    }
  };
  run_stages(items_, work, &run, room.threads_, room.pace_);
}

void Graph::run(const std::vector<float*>& tensors, int64_t threads) {
  threads = std::max<int64_t>(1, threads);
  std::unique_ptr<Room> room = rooms_.take();
  if (room == nullptr || room->threads_ != threads) room = std::make_unique<Room>(*this, threads);
  run(*room, tensors.data(), static_cast<int64_t>(tensors.size()));
  rooms_.give(std::move(room));
}

void Graph::run_some(float* arena, const std::vector<float*>& tensors, int64_t first, int64_t last,
                     int64_t threads) const {
  std::vector<float*> slots = {arena};
  slots.insert(slots.end(), tensors.begin(), tensors.end());
  const Memory memory = {slots.data(), arena + arena_, arena + arena_ + scratch_, room_};
  for (int64_t i = first; i < last; ++i) {
    const Operation& operation = *operations_.at(i);
    std::vector<int64_t> items;
    for (int64_t s = 0; s < operation.stages(); ++s) items.push_back(operation.items(s));
    std::pair<const Operation&, const Memory&> both{operation, memory};
    const auto work = [](void* context, int64_t stage, int64_t item) {
      const auto& [operation, memory] = *static_cast<decltype(both)*>(context);
      operation.run(memory, stage, item);
    };
    run_stages(items, work, &both, threads);
  }
}

int64_t Graph::minimal(int64_t first, int64_t last) const {
  int64_t most = 0;
  for (int64_t i = first; i < last; ++i) most = std::max(most, operations_.at(i)->minimal());
  return most;
}

bool are_finite(const float* numbers, int64_t n) {
  uint32_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    memcpy(&bits, numbers + i, sizeof bits);
    found |= (bits & 0x7F800000) + 0x00800000;  // an exponent of ones carries into the sign
  }
  return found >> 31 == 0;
}

}  // namespace fastgan
