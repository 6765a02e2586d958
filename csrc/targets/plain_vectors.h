// Vectors in plain C++, with the operators that GCC's and Clang's have: targets/compiler.h says for
// whom. Included by kernels_vectors.h.
#pragma once

#include <stdint.h>
#include <string.h>

namespace fastgan {
namespace {

// kWidth numbers; made of one, that in each lane.
template <class T>
struct Lanes {
  T at[kWidth];

  T& operator[](int64_t i) { return at[i]; }
  const T& operator[](int64_t i) const { return at[i]; }

  // The same bits.
  template <class Other>
  explicit operator Lanes<Other>() const {
    Lanes<Other> made;
    memcpy(&made, this, sizeof made);
    return made;
  }
};

using Vector = Lanes<float>;
using Integers = Lanes<int32_t>;

template <class Made, class F>
Lanes<Made> lanes_of(const F& function) {
  Lanes<Made> made;
  for (int i = 0; i < kWidth; ++i) made.at[i] = function(i);
  return made;
}

// Whole numbers wrap around, and bits go where they are shifted.
inline float plus(float a, float b) { return a + b; }
inline float minus(float a, float b) { return a - b; }
inline float times(float a, float b) { return a * b; }
inline int32_t wrapped(uint32_t a) { return static_cast<int32_t>(a); }
inline int32_t plus(int32_t a, int32_t b) { return wrapped(uint32_t(a) + uint32_t(b)); }
inline int32_t minus(int32_t a, int32_t b) { return wrapped(uint32_t(a) - uint32_t(b)); }
inline int32_t times(int32_t a, int32_t b) { return wrapped(uint32_t(a) * uint32_t(b)); }

// Of two vectors, and of one and a number, which is never deduced from.
template <class T>
struct Same {
  using Type = T;
};
template <class T>
using Number = typename Same<T>::Type;

#define FASTGAN_OPERATOR(symbol, Made, lane)                         \
  template <class T>                                                 \
  Lanes<Made> operator symbol(const Lanes<T>& x, const Lanes<T>& y) { \
    return lanes_of<Made>([&](int i) {                               \
      const T a = x.at[i], b = y.at[i];                              \
      return lane;                                                   \
    });                                                              \
  }                                                                  \
  template <class T>                                                 \
  Lanes<Made> operator symbol(const Lanes<T>& x, Number<T> b) {      \
    return lanes_of<Made>([&](int i) {                               \
      const T a = x.at[i];                                           \
      return lane;                                                   \
    });                                                              \
  }                                                                  \
  template <class T>                                                 \
  Lanes<Made> operator symbol(Number<T> a, const Lanes<T>& y) {      \
    return lanes_of<Made>([&](int i) {                               \
      const T b = y.at[i];                                           \
      return lane;                                                   \
    });                                                              \
  }

FASTGAN_OPERATOR(+, T, plus(a, b))
FASTGAN_OPERATOR(-, T, minus(a, b))
FASTGAN_OPERATOR(*, T, times(a, b))
FASTGAN_OPERATOR(/, T, a / b)
FASTGAN_OPERATOR(&, T, a & b)
FASTGAN_OPERATOR(|, T, a | b)
FASTGAN_OPERATOR(<<, T, wrapped(uint32_t(a) << b))
FASTGAN_OPERATOR(>>, T, a >> b)
// All bits of a lane where it holds, as masks are.
FASTGAN_OPERATOR(==, int32_t, -int32_t{a == b})
FASTGAN_OPERATOR(!=, int32_t, -int32_t{a != b})
FASTGAN_OPERATOR(<, int32_t, -int32_t{a < b})
FASTGAN_OPERATOR(>, int32_t, -int32_t{a > b})
FASTGAN_OPERATOR(<=, int32_t, -int32_t{a <= b})
#undef FASTGAN_OPERATOR

template <class T>
Lanes<T> operator-(const Lanes<T>& x) {
  return lanes_of<T>([&](int i) { return -x.at[i]; });
}

template <class T, class Other>
Lanes<T>& operator+=(Lanes<T>& x, const Other& y) {
  return x = x + y;
}

template <class T, class Other>
Lanes<T>& operator*=(Lanes<T>& x, const Other& y) {
  return x = x * y;
}

// a where the mask's bits are set, else b.
template <class T>
Lanes<T> select(const Integers& mask, const Lanes<T>& a, const Lanes<T>& b) {
  return lanes_of<T>([&](int i) { return mask.at[i] != 0 ? a.at[i] : b.at[i]; });
}

inline Vector to_floats(const Integers& x) {
  return lanes_of<float>([&](int i) { return static_cast<float>(x.at[i]); });
}

// Of numbers from 0 to 255.
inline void store_bytes(uint8_t* p, const Vector& x) {
  for (int i = 0; i < kWidth; ++i) p[i] = static_cast<uint8_t>(x.at[i]);
}

}  // namespace
}  // namespace fastgan
