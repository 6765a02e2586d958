// Memory of the engine's own: zero when new, and not there before it is touched.
#pragma once

#include <stdint.h>
#include <stdlib.h>

#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace fastgan {

// Bytes from a multiple of 64 on; none of 0.
class Block {
 public:
  static constexpr size_t kAlignment = 64;

  Block() = default;
  // Throws std::bad_alloc.
  explicit Block(int64_t bytes) : bytes_(bytes) {
    if (bytes <= 0) return;
    if (static_cast<uint64_t>(bytes) > SIZE_MAX - kAlignment) throw std::bad_alloc();
    start_ = calloc(static_cast<size_t>(bytes) + kAlignment, 1);
    if (start_ == nullptr) throw std::bad_alloc();
  }
  Block(Block&& other) noexcept
      : start_(std::exchange(other.start_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Block& operator=(Block&& other) noexcept {
    std::swap(start_, other.start_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  Block(const Block&) = delete;
  ~Block() { free(start_); }

  char* data() const {
    const uintptr_t at = reinterpret_cast<uintptr_t>(start_);
    return start_ == nullptr ? nullptr
                             : reinterpret_cast<char*>((at + kAlignment - 1) / kAlignment * kAlignment);
  }
  float* floats() const { return reinterpret_cast<float*>(data()); }
  int64_t bytes() const { return bytes_; }

 private:
  void* start_ = nullptr;
  int64_t bytes_ = 0;
};

// Throws std::bad_alloc where a block of so many rows of floats takes more than these bytes.
inline void check_room(int64_t rows, int64_t floats, int64_t bytes) {
  const double size = 4.0 * static_cast<double>(rows) * static_cast<double>(floats);
  if (size > static_cast<double>(bytes) - Block::kAlignment) throw std::bad_alloc();
}

// What calls give back for others to take; from any thread.
template <class T>
class Spares {
 public:
  std::unique_ptr<T> take() {  // null where there is none
    const std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return nullptr;
    std::unique_ptr<T> found = std::move(free_.back());
    free_.pop_back();
    return found;
  }
  void give(std::unique_ptr<T> one) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(one));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> free_;
};

}  // namespace fastgan
