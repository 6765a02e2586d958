// A bundle as bytes: mapped or the caller's, checked, and divided into sections (docs/bundle.md).
#pragma once

#include <stdint.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace fastgan {

// A file that can't be opened or read.
struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A bundle of another version of the format.
struct VersionError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class File {
 public:
  enum Kind : uint64_t { kModel = 1, kProgram = 2, kWeights = 3 };

  struct Section {
    uint64_t kind;
    const char* data;
    uint64_t size;
  };

  // Throws FileError, VersionError, or std::invalid_argument for what is no whole bundle.
  explicit File(const char* path);
  File(const void* data, uint64_t size);
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  const std::vector<Section>& sections() const { return sections_; }
  uint64_t size() const { return size_; }

  // Lets go of pages that were read, of all or of these bytes; they are read again where they are
  // needed.
  void rest() const { rest(data_, size_); }
  void rest(const char* from, uint64_t bytes) const;

 private:
  void check();
  void close();

  const char* data_ = nullptr;
  uint64_t size_ = 0;
  enum { kGiven, kMapped, kRead } how_ = kGiven;
  std::vector<Section> sections_;
};

}  // namespace fastgan
