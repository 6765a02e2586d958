// A prepared program with the inputs and outputs of one batch: what fastgan_session is.
#pragma once

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../bundle/bundle.h"
#include "../bundle/prepared.h"
#include "../include/fastgan.h"

namespace fastgan {

// A status with its sentence; made where memory may be allocated, and on the way out of a failed call.
struct Failure {
  fastgan_status status;
  std::string text;
};

[[noreturn]] inline void refuse(const std::string& text) { throw Failure{FASTGAN_ARGUMENT, text}; }

class Session {
 public:
  Session(std::shared_ptr<const Bundle> bundle, const BundleProgram& program, int64_t threads,
          fastgan_format format);

  void latents(uint64_t seed, uint64_t start, int64_t n, double truncation, float* out,
               size_t size) const;
  void generate(const fastgan_request& request, void* out, size_t size);
  void set(const char* input, const float* values, size_t count);
  void apply(const void* images, size_t images_size, int64_t count, void* out, size_t size);
  void apply_tiled(const void* image, size_t image_size, int64_t height, int64_t width,
                   int64_t pad, void* out, size_t size);
  void run(const fastgan_tensor* inputs, int32_t input_count, const fastgan_tensor* outputs,
           int32_t output_count);

  fastgan_program describe() const { return describe(*bundle_, program_); }
  static fastgan_program describe(const Bundle& bundle, const BundleProgram& program);

  size_t latent_size() const;
  uint64_t image_bytes() const;

  std::atomic<bool> busy{false}, cancelled{false};

 private:
  // How an input comes by its numbers.
  struct Slot {
    const ProgramTensor* tensor;
    const Port* port;
    int64_t each;  // numbers of a sample, or all of an input without rows
    Block memory;
    bool given = false;  // by set
  };

  // A part of what was made, and where it goes.
  struct Part {
    int64_t from_y, from_x, to_y, to_x, height, width;
  };
  struct Cuts;

  Slot* first(PortKind kind);
  const Slot* first(PortKind kind) const;
  const Slot* image_slot() const;
  void draw(const Slot& slot, uint64_t seed, uint64_t start, int64_t n, double limit,
            float* out) const;
  void fill(Slot& slot, const fastgan_request& request, int64_t done, int64_t count);
  void check_labels(const fastgan_request& request) const;
  void run_batches(const fastgan_request& request, const void* images, void* out, size_t size);
  void read_image(const void* image, int64_t height, int64_t width, int64_t top, int64_t left,
                  int64_t row);
  void write_image(const float* from, const Part& part, char* to, int64_t height,
                   int64_t width) const;
  int64_t batch() const { return program_.batch; }

  std::shared_ptr<const Bundle> bundle_;
  const BundleProgram& program_;
  Prepared prepared_;
  Prepared::Room room_;
  fastgan_format format_;
  std::vector<Slot> slots_;
  std::vector<Block> outputs_;
  std::vector<const float*> in_;
  std::vector<float*> out_;
  std::vector<Part> parts_;  // of the windows that run together
  size_t made_;        // of the program's outputs
  Slot* truncates_ = nullptr;  // the model's own truncation
};

}  // namespace fastgan
