// Numbers one after another in untrusted bytes: whole ones of 8 bytes and floating-point ones of 8,
// little-endian; lists and texts behind their length. What does not fit throws std::invalid_argument.
#pragma once

#include <stdint.h>
#include <string.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace fastgan {

inline void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

class Fields {
 public:
  Fields(const char* data, uint64_t size) : at_(data), left_(size) {}

  bool done() const { return left_ == 0; }
  uint64_t left() const { return left_; }  // bytes

  // A whole number from `least` to `most`.
  int64_t whole(int64_t least, int64_t most, const char* what) {
    const uint64_t bits = word();
    int64_t value;
    memcpy(&value, &bits, sizeof value);
    require(value >= least && value <= most, what);
    return value;
  }

  bool flag(const char* what) { return whole(0, 1, what) == 1; }

  double number() {
    const uint64_t bits = word();
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }

  // In the range of a float, or not a number.
  float real() {
    const double value = number();
    const bool infinite = value == value && value - value != 0;
    require(value != value || infinite || (value >= -kMost && value <= kMost),
            "a number beyond the range of a float");
    return static_cast<float>(value);
  }

  // How many there are of what takes at least `each` bytes.
  int64_t count(uint64_t each, const char* what) {
    const int64_t found = whole(0, INT64_MAX, what);
    require(static_cast<uint64_t>(found) <= left_ / each, what);
    return found;
  }

  std::vector<int64_t> list(int64_t least, int64_t most, const char* what) {
    std::vector<int64_t> found(static_cast<size_t>(count(8, what)));
    for (int64_t& value : found) value = whole(least, most, what);
    return found;
  }

  std::vector<float> reals(const char* what) {
    std::vector<float> found(static_cast<size_t>(count(8, what)));
    for (float& value : found) value = real();
    return found;
  }

  std::string text(const char* what) {
    const int64_t size = count(1, what);
    std::string found(at_, static_cast<size_t>(size));
    skip(static_cast<uint64_t>(size));
    return found;
  }

 private:
  static constexpr double kMost = 3.4028234663852886e38;

  uint64_t word() {
    require(left_ >= 8, "it ends too soon");
    const unsigned char* from = reinterpret_cast<const unsigned char*>(at_);
    uint64_t value = 0;
    for (int i = 7; i >= 0; --i) value = value << 8 | from[i];
    skip(8);
    return value;
  }

  void skip(uint64_t bytes) {
    at_ += bytes;
    left_ -= bytes;
  }

  const char* at_;
  uint64_t left_;
};

}  // namespace fastgan
