#include "file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../runtime/fields.h"
#include "crc32.h"

#ifndef _WIN32
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace fastgan {
namespace {

constexpr char kMagic[8] = {'f', 'a', 's', 't', 'g', 'a', 'n', '\n'};
constexpr int64_t kVersion = 2;  // from 1 on
constexpr uint64_t kHeader = 64, kEntry = 24, kChecked = 24, kMostSections = 1 << 16;

}  // namespace

File::File(const void* data, uint64_t size) : data_(static_cast<const char*>(data)), size_(size) {
  check();
}

File::File(const char* path) {
#ifndef _WIN32
  const int file = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) throw FileError(strerror(errno));
  struct stat found {};
  const bool plain = fstat(file, &found) == 0 && S_ISREG(found.st_mode);
  if (plain && found.st_size > 0) {
    size_ = static_cast<uint64_t>(found.st_size);
    void* const at = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    if (at != MAP_FAILED) {
      data_ = static_cast<const char*>(at);
      how_ = kMapped;
    }
  }
  ::close(file);
  if (!plain) throw FileError("not a plain file");
  require(size_ > 0, "an empty file");
  if (data_ == nullptr) throw FileError("it can't be mapped");
#else
  FILE* const file = fopen(path, "rb");
  if (file == nullptr) throw FileError(strerror(errno));
  _fseeki64(file, 0, SEEK_END);
  const int64_t size = _ftelli64(file);
  _fseeki64(file, 0, SEEK_SET);
  char* const memory = size > 0 ? static_cast<char*>(_aligned_malloc(size, 64)) : nullptr;
  const bool whole =
      memory != nullptr && fread(memory, 1, size, file) == static_cast<size_t>(size);
  fclose(file);
  data_ = memory;
  how_ = kRead;
  size_ = static_cast<uint64_t>(size > 0 ? size : 0);
  if (!whole) {
    close();
    throw FileError("it can't be read");
  }
#endif
  try {
    check();
  } catch (...) {
    close();
    throw;
  }
}

File::~File() { close(); }

void File::close() {
#ifndef _WIN32
  if (how_ == kMapped) munmap(const_cast<char*>(data_), size_);
#else
  if (how_ == kRead) _aligned_free(const_cast<char*>(data_));
#endif
  how_ = kGiven;
}

void File::rest(const char* from, uint64_t bytes) const {
#ifndef _WIN32
  if (how_ != kMapped) return;
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t begin = static_cast<uint64_t>(from - data_), end = begin + bytes;
  // Whole pages alone, but for the last of the file.
  const uint64_t first = (begin + page - 1) / page * page;
  const uint64_t last = end == size_ ? end : end / page * page;
  if (first < last) madvise(const_cast<char*>(data_) + first, last - first, MADV_DONTNEED);
#else
  (void)from, (void)bytes;
#endif
}

void File::check() {
  require(size_ >= kHeader && memcmp(data_, kMagic, sizeof kMagic) == 0, "no bundle of fastgan's");
  require(reinterpret_cast<uintptr_t>(data_) % 8 == 0, "memory that is not aligned to 8 bytes");
  Fields header(data_ + sizeof kMagic, kHeader - sizeof kMagic);
  const int64_t version = header.whole(0, INT64_MAX, "no version");
  if (version < 1 || version > kVersion) {
    throw VersionError("a bundle of format " + std::to_string(version) + ", needed at most " +
                       std::to_string(kVersion) + ": make it anew with `fastgan bundle`");
  }
  const int64_t sum = header.whole(0, 0xFFFFFFFF, "no checksum");
  const int64_t size = header.whole(0, INT64_MAX, "no size");
  require(static_cast<uint64_t>(size) == size_, "a bundle of which a part is missing");
  require(crc32(data_ + kChecked, size_ - kChecked) == static_cast<uint32_t>(sum),
          "a damaged bundle: its checksum is another one");
  const int64_t count = header.whole(0, kMostSections, "no number of sections");
  require(static_cast<uint64_t>(count) * kEntry <= size_ - kHeader, "it ends too soon");
  Fields table(data_ + kHeader, static_cast<uint64_t>(count) * kEntry);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t kind = table.whole(0, INT64_MAX, "a section of no kind");
    const int64_t at = table.whole(0, size, "a section beyond the end");
    const int64_t length = table.whole(0, size - at, "a section beyond the end");
    sections_.push_back({static_cast<uint64_t>(kind), data_ + at, static_cast<uint64_t>(length)});
  }
}

}  // namespace fastgan
