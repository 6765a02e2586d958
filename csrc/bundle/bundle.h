// A model made ready ahead of time: what its inputs and outputs are, programs for some batches and
// sizes of images, and its weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../runtime/records/records.h"
#include "file.h"

namespace fastgan {

// The numbers are the format's; the meanings are those of fastgan/model/signature.py.
enum class PortKind { kLatent, kLabel, kImage, kMask, kNoise, kScalar, kTensor };
enum class Distribution { kNone = -1, kNormal, kUniform, kUniformSymmetric, kHypersphere };

struct Size {
  int64_t length;    // -1 where it is open
  std::string name;  // of an open one
};

struct Port {
  std::string name;
  PortKind kind;
  std::string dtype;
  std::vector<Size> shape;
  Distribution distribution;
  int64_t classes;  // -1: unknown, or none
  bool ranged;
  double low, high;
  std::vector<float> mean, std;
  bool guessed;
  int64_t fill;  // of a mask: -1 unknown, 0 black, 1 white
  bool channels_last;
  bool defaulted;
  double value;    // that it has where none is given
  int64_t stream;  // of the random numbers
  bool rows;       // a row for each sample; of an output, made of that sample alone
  bool truncates;  // the model's own truncation, psi
};

struct ProgramTensor {
  int64_t port;
  std::vector<int64_t> sizes, strides;

  int64_t count() const;    // elements
  bool contiguous() const;  // row by row
};

struct BundleProgram {
  int64_t batch, height, width;  // of images; 0 where the model says it
  std::vector<ProgramTensor> inputs, outputs;
  int64_t arena;  // floats
  bool bf16;
  const char* records;
  uint64_t size;
};

class Bundle {
 public:
  // most_bytes: of memory for packed weights and for each run.
  Bundle(std::unique_ptr<File> file, int64_t most_bytes);

  std::string name, maker;
  std::vector<std::string> classes;
  std::vector<Port> inputs, outputs;
  int64_t made = 0;  // the output that is generated
  std::vector<BundleProgram> programs;
  std::vector<Constant> constants;

  const File& file() const { return *file_; }
  int64_t most_bytes() const { return most_bytes_; }

  // The weights as they are packed, for all that is prepared.
  Weights& weights() const { return *weights_; }

 private:
  void read_model(Fields fields);
  void read_program(Fields fields, const File::Section& section);
  void read_weights(const File::Section& section);

  std::unique_ptr<File> file_;
  int64_t most_bytes_;
  std::unique_ptr<Weights> weights_;
};

}  // namespace fastgan
