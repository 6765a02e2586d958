#include "session.h"

#include <string.h>

#include <algorithm>
#include <cmath>

#include "../bundle/truncation.h"
#include "../latents/sampling_cpu.h"

namespace fastgan {
namespace {

bool is_float(const Port& port) { return port.dtype.find("float") != std::string::npos; }

}  // namespace

Session::Session(std::shared_ptr<const Bundle> bundle, const BundleProgram& program,
                 int64_t threads, fastgan_format format)
    : bundle_(std::move(bundle)),
      program_(program),
      prepared_(*bundle_, program_, threads, program_.bf16),
      room_(prepared_, threads),
      format_(format),
      made_(0) {
  for (const ProgramTensor& tensor : program_.inputs) {
    const Port& port = bundle_->inputs[tensor.port];
    Slot slot{&tensor, &port, port.rows ? tensor.count() / batch() : tensor.count(),
              Block(tensor.count() * 4)};
    slots_.push_back(std::move(slot));
  }
  for (Slot& slot : slots_) {
    if (slot.port->truncates) truncates_ = &slot;
    in_.push_back(slot.memory.floats());
  }
  for (size_t i = 0; i < program_.outputs.size(); ++i) {
    outputs_.emplace_back(program_.outputs[i].count() * 4);
    out_.push_back(outputs_.back().floats());
    if (program_.outputs[i].port == bundle_->made) made_ = i;
  }
  parts_.resize(static_cast<size_t>(batch()));
  // What the first call would do once.
  float number[4];
  sample({kNormal, {0, 1, 0}, number, 1, 4, 0, 0, 0}, 1, "");
  prepared_.run(room_, in_.data(), out_.data());
}

fastgan_program Session::describe(const Bundle& bundle, const BundleProgram& program) {
  fastgan_program found{};
  found.batch = program.batch;
  for (const ProgramTensor& tensor : program.outputs) {
    if (tensor.port != bundle.made || tensor.sizes.size() != 4) continue;
    found.channels = tensor.sizes[1], found.height = tensor.sizes[2], found.width = tensor.sizes[3];
  }
  for (const ProgramTensor& tensor : program.inputs) {
    if (bundle.inputs[tensor.port].kind != PortKind::kImage || tensor.sizes.size() != 4) continue;
    found.in_channels = tensor.sizes[1];
    found.in_height = tensor.sizes[2], found.in_width = tensor.sizes[3];
    break;
  }
  return found;
}

size_t Session::latent_size() const {
  const Slot* slot = first(PortKind::kLatent);
  return slot == nullptr ? 0 : static_cast<size_t>(slot->each);
}

uint64_t Session::image_bytes() const {
  const int64_t each = program_.outputs[made_].count() / batch();
  return static_cast<uint64_t>(each) * (format_ == FASTGAN_UINT8 ? 1 : sizeof(float));
}

Session::Slot* Session::first(PortKind kind) {
  return const_cast<Slot*>(static_cast<const Session*>(this)->first(kind));
}

const Session::Slot* Session::first(PortKind kind) const {
  for (const Slot& slot : slots_) {
    if (slot.port->kind == kind) return &slot;
  }
  return nullptr;
}

const Session::Slot* Session::image_slot() const {
  const Slot* slot = first(PortKind::kImage);
  if (slot == nullptr || slot->tensor->sizes.size() != 4 || slot->each == 0) {
    refuse("apply: the model takes no image");
  }
  return slot;
}

// n samples; limit: of normal ones, 0 for none.
void Session::draw(const Slot& slot, uint64_t seed, uint64_t start, int64_t n, double limit,
                   float* out) const {
  if (slot.each == 0) return;
  Job job{kNormal, {0, 1, 0}, out, static_cast<uint64_t>(n), static_cast<uint64_t>(slot.each),
          seed,    start,     static_cast<uint32_t>(slot.port->stream)};
  switch (slot.port->distribution) {
    case Distribution::kUniform: job.kind = kUniform; break;
    case Distribution::kUniformSymmetric:
      job.kind = kUniform;
      job.parameters = {-1, 2, 0};
      break;
    case Distribution::kHypersphere: job.kind = kHypersphere; break;
    default: break;
  }
  if (limit != 0) {
    if (job.kind != kNormal) refuse("truncation: the latents are not normal");
    job.kind = kTruncated;
    job.parameters = truncation(limit);
  }
  sample(job, 1, "");
}

void Session::latents(uint64_t seed, uint64_t start, int64_t n, double truncation, float* out,
                      size_t size) const {
  const Slot* slot = first(PortKind::kLatent);
  if (slot == nullptr) refuse("latents: the model has no latent input");
  if (out == nullptr || n < 1) refuse("latents: nothing to write");
  if (!(truncation >= 0) || std::isinf(truncation)) refuse("truncation: a number of at least 0");
  if (static_cast<uint64_t>(n) > size / sizeof(float) / static_cast<uint64_t>(slot->each)) {
    refuse("latents: too little room for them");
  }
  if (start + static_cast<uint64_t>(n) < start) refuse("start: beyond the last sample");
  draw(*slot, seed, start, n, truncation, out);
}

// One input of samples done, done + 1, ... of the request; beyond `count` the batch is filled up.
void Session::fill(Slot& slot, const fastgan_request& request, int64_t done, int64_t count) {
  const Port& port = *slot.port;
  float* const to = slot.memory.floats();
  const uint64_t start = request.start + static_cast<uint64_t>(done);
  if (&slot == truncates_ && request.truncation != 0) {
    std::fill(to, to + slot.tensor->count(), static_cast<float>(request.truncation));
  } else if (slot.given) {
    // As it was set.
  } else if (port.kind == PortKind::kLatent) {
    const bool own = &slot == first(PortKind::kLatent);
    if (own && request.latents != nullptr) {
      memcpy(to, request.latents + done * slot.each, static_cast<size_t>(count * slot.each) * 4);
    } else {
      const double limit = truncates_ == nullptr ? request.truncation : 0;
      draw(slot, request.seed, start, count, limit, to);
    }
  } else if (port.kind == PortKind::kNoise) {
    draw(slot, request.seed, start, count, 0, to);
  } else if (port.kind == PortKind::kLabel) {
    if (slot.each == 0) return;
    const bool one_hot = is_float(port);
    if (one_hot) std::fill(to, to + slot.tensor->count(), 0.0f);
    for (int64_t i = 0; i < count; ++i) {
      int64_t label = 0;
      if (request.labels != nullptr) {
        label = request.labels[done + i];
      } else {
        uint32_t word = 0;
        const Job job{kBits,        {0, 1, 0}, reinterpret_cast<float*>(&word),
                      1,            1,         request.seed,
                      start + static_cast<uint64_t>(i), static_cast<uint32_t>(port.stream)};
        sample(job, 1, "");
        label = static_cast<int64_t>(uint64_t{word} * static_cast<uint64_t>(port.classes) >> 32);
      }
      if (one_hot) {
        to[i * slot.each + label] = 1;
      } else {
        to[i * slot.each] = static_cast<float>(label);
      }
    }
  } else if (port.defaulted) {
    std::fill(to, to + slot.tensor->count(), static_cast<float>(port.value));
  } else if (slot.tensor->count() > 0) {
    refuse("input " + port.name + ": no seed makes it; fastgan_set gives it a value");
  }
  if (!port.rows || slot.given) return;
  for (int64_t i = count; i < batch(); ++i) {
    memcpy(to + i * slot.each, to + (count - 1) * slot.each, static_cast<size_t>(slot.each) * 4);
  }
}

void Session::check_labels(const fastgan_request& request) const {
  const Slot* slot = first(PortKind::kLabel);
  if (slot == nullptr || slot->each == 0) {
    if (request.labels != nullptr) refuse("labels: the model has no classes");
    return;
  }
  const bool one_hot = is_float(*slot->port);
  const int64_t classes = one_hot ? slot->each : slot->port->classes;
  if (request.labels == nullptr) {
    if (slot->given) return;
    if (slot->port->classes < 1 || (one_hot && slot->port->classes > slot->each)) {
      refuse("labels: the model does not say how many classes it has");
    }
    return;
  }
  for (int64_t i = 0; i < request.count; ++i) {
    const int64_t label = request.labels[i];
    if (label < 0 || (classes > 0 && label >= classes) || label >= int64_t{1} << 24) {
      refuse("labels: " + std::to_string(label) + " is none of " + std::to_string(classes) +
             " classes");
    }
  }
}

void Session::generate(const fastgan_request& request, void* out, size_t size) {
  if (request.size != 0 && request.size < sizeof(fastgan_request)) {
    refuse("request: size: needed sizeof(fastgan_request)");
  }
  run_batches(request, nullptr, out, size);
}

void Session::apply(const void* images, size_t images_size, int64_t count, void* out,
                    size_t size) {
  const Slot* slot = image_slot();
  if (images == nullptr) refuse("images: NULL");
  const uint64_t each =
      static_cast<uint64_t>(slot->each) * (format_ == FASTGAN_UINT8 ? 1 : sizeof(float));
  if (count < 1 || images_size / each < static_cast<uint64_t>(count)) {
    refuse("images: fewer bytes than " + std::to_string(count) + " of " + std::to_string(each));
  }
  fastgan_request request{};
  request.count = count;
  run_batches(request, images, out, size);
}

void Session::run_batches(const fastgan_request& request, const void* images, void* out,
                          size_t size) {
  const int64_t n = request.count;
  const uint64_t each = image_bytes();
  if (n < 1) refuse("count: " + std::to_string(n) + ", needed at least 1");
  if (out == nullptr) refuse("out: NULL");
  if (each == 0 || size / each < static_cast<uint64_t>(n)) {
    refuse("size: " + std::to_string(size) + " bytes for " + std::to_string(n) + " images of " +
           std::to_string(each));
  }
  if (request.start + static_cast<uint64_t>(n) < request.start) {
    refuse("start: beyond the last sample");
  }
  if (!(request.truncation >= 0) || std::isinf(request.truncation)) {
    refuse("truncation: a number of at least 0");
  }
  if (request.latents != nullptr && (request.truncation != 0 && truncates_ == nullptr)) {
    refuse("truncation: latents beside it");
  }
  if ((request.latents != nullptr || (request.truncation != 0 && truncates_ == nullptr)) &&
      first(PortKind::kLatent) == nullptr) {
    refuse("latents: the model has no latent input");
  }
  if (!bundle_->outputs[bundle_->made].rows && n != batch()) {
    refuse("count: the samples of this model run together, " + std::to_string(batch()) +
           " of them: the batch of the session");
  }
  check_labels(request);
  Slot* const image = images == nullptr ? nullptr : first(PortKind::kImage);
  for (int64_t done = 0; done < n; done += batch()) {
    if (cancelled.exchange(false)) throw Failure{FASTGAN_CANCELLED, "cancelled"};
    const int64_t count = std::min(batch(), n - done);
    for (Slot& slot : slots_) {
      if (&slot != image) fill(slot, request, done, count);
    }
    if (image != nullptr) {
      const std::vector<int64_t>& sizes = image->tensor->sizes;
      for (int64_t i = 0; i < batch(); ++i) {
        const int64_t one = done + std::min(i, count - 1);
        const char* const from = static_cast<const char*>(images) +
                                 one * image->each * (format_ == FASTGAN_UINT8 ? 1 : 4);
        read_image(from, sizes[2], sizes[3], 0, 0, i);
      }
    }
    char* const to = static_cast<char*>(out) + static_cast<uint64_t>(done) * each;
    const bool direct = format_ == FASTGAN_FLOAT32 && count == batch() &&
                        reinterpret_cast<uintptr_t>(to) % sizeof(float) == 0;
    out_[made_] = direct ? reinterpret_cast<float*>(to) : outputs_[made_].floats();
    prepared_.run(room_, in_.data(), out_.data());
    if (direct) continue;
    const fastgan_program of = describe();
    const int64_t tall = of.channels > 0 ? of.height : 1;
    const int64_t wide = of.channels > 0 ? of.width : program_.outputs[made_].count() / batch();
    for (int64_t i = 0; i < count; ++i) {
      write_image(out_[made_] + i * program_.outputs[made_].count() / batch(),
                  {0, 0, 0, 0, tall, wide}, to + static_cast<uint64_t>(i) * each, tall, wide);
    }
  }
  out_[made_] = outputs_[made_].floats();
}

void Session::set(const char* input, const float* values, size_t count) {
  if (input == nullptr || values == nullptr) refuse("set: NULL");
  for (Slot& slot : slots_) {
    if (slot.port->name != input) continue;
    const size_t all = static_cast<size_t>(slot.tensor->count());
    if (count == 0 || (count != 1 && count != all && count != static_cast<size_t>(slot.each))) {
      refuse("input " + slot.port->name + ": " + std::to_string(count) + " numbers, needed " +
             std::to_string(all) + ", " + std::to_string(slot.each) + " or 1");
    }
    float* const to = slot.memory.floats();
    for (size_t i = 0; i < all; ++i) to[i] = values[i % count];
    slot.given = true;
    return;
  }
  refuse("no input is called " + std::string(input));
}

void Session::run(const fastgan_tensor* inputs, int32_t input_count, const fastgan_tensor* outputs,
                  int32_t output_count) {
  if ((inputs == nullptr && input_count > 0) || outputs == nullptr || output_count < 1) {
    refuse("run: NULL");
  }
  const auto named = [](const fastgan_tensor* tensors, int32_t count, const std::string& name) {
    for (int32_t i = 0; i < count; ++i) {
      if (tensors[i].name != nullptr && name == tensors[i].name) return tensors + i;
    }
    return static_cast<const fastgan_tensor*>(nullptr);
  };
  const auto check = [](const fastgan_tensor& given, int64_t needed) {
    if (given.data == nullptr || given.count != static_cast<size_t>(needed)) {
      refuse(std::string(given.name) + ": " + std::to_string(given.count) + " numbers, needed " +
             std::to_string(needed));
    }
  };
  for (Slot& slot : slots_) {
    const fastgan_tensor* given = named(inputs, input_count, slot.port->name);
    if (given == nullptr && !slot.given && slot.tensor->count() > 0) {
      refuse("no input " + slot.port->name);
    }
    if (given != nullptr) check(*given, slot.tensor->count());
  }
  for (int32_t i = 0; i < output_count; ++i) {
    const fastgan_tensor* found = nullptr;
    for (const ProgramTensor& tensor : program_.outputs) {
      if (outputs[i].name == nullptr || bundle_->outputs[tensor.port].name != outputs[i].name) {
        continue;
      }
      found = outputs + i;
      check(*found, tensor.count());
    }
    if (found == nullptr) refuse("an output that the model does not have");
  }
  if (cancelled.exchange(false)) throw Failure{FASTGAN_CANCELLED, "cancelled"};
  for (Slot& slot : slots_) {
    const fastgan_tensor* given = named(inputs, input_count, slot.port->name);
    if (given != nullptr && given->count > 0) {
      memcpy(slot.memory.data(), given->data, given->count * sizeof(float));
      slot.given = false;
    }
  }
  prepared_.run(room_, in_.data(), out_.data());
  for (size_t i = 0; i < out_.size(); ++i) {
    const std::string& name = bundle_->outputs[program_.outputs[i].port].name;
    const fastgan_tensor* to = named(outputs, output_count, name);
    if (to != nullptr) memcpy(to->data, out_[i], to->count * sizeof(float));
  }
}

}  // namespace fastgan
