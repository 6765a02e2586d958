// A lane type of two vectors side by side. A processor sees only some hundred operations ahead, about
// one group; with two groups' operations taking turns it always finds some that need not wait.
#pragma once

#include <type_traits>

#include "philox.h"

namespace fastgan {
namespace {

template <class V>
struct Two {
  V a, b;
};

#define FASTGAN_TWO(op)                                                             \
  template <class V>                                                                \
  FASTGAN_FN auto operator op(const Two<V>& x, const Two<V>& y) {                   \
    return Two<decltype(x.a op y.a)>{x.a op y.a, x.b op y.b};                       \
  }                                                                                 \
  template <class V, class S, class = std::enable_if_t<std::is_arithmetic_v<S>>>    \
  FASTGAN_FN auto operator op(const Two<V>& x, S y) {                               \
    return Two<decltype(x.a op y)>{x.a op y, x.b op y};                             \
  }                                                                                 \
  template <class V, class S, class = std::enable_if_t<std::is_arithmetic_v<S>>>    \
  FASTGAN_FN auto operator op(S x, const Two<V>& y) {                               \
    return Two<decltype(x op y.a)>{x op y.a, x op y.b};                             \
  }
FASTGAN_TWO(+)
FASTGAN_TWO(-)
FASTGAN_TWO(*)
FASTGAN_TWO(/)
FASTGAN_TWO(^)
FASTGAN_TWO(&)
FASTGAN_TWO(<<)
FASTGAN_TWO(>>)
FASTGAN_TWO(<)
FASTGAN_TWO(>=)
FASTGAN_TWO(!=)
#undef FASTGAN_TWO

template <class V>
FASTGAN_FN Two<V> operator-(const Two<V>& x) {
  return {-x.a, -x.b};
}

template <class L>
struct Twin {
  using Wide = Two<typename L::Wide>;
  using Word = Two<typename L::Word>;
  using Int = Two<typename L::Int>;
  using Float = Two<typename L::Float>;

  static FASTGAN_FN Wide wide(uint64_t a) { return {L::wide(a), L::wide(a)}; }
  static FASTGAN_FN Wide product(Wide x, uint32_t y) {
    return {L::product(x.a, y), L::product(x.b, y)};
  }
  static FASTGAN_FN Wide high(Wide x) { return {L::high(x.a), L::high(x.b)}; }
  static FASTGAN_FN Word merge(Wide x, Wide y) { return {L::merge(x.a, y.a), L::merge(x.b, y.b)}; }
  static FASTGAN_FN Float to_float(Int x) { return {L::to_float(x.a), L::to_float(x.b)}; }
  static FASTGAN_FN Int to_signed(Word x) { return {L::to_signed(x.a), L::to_signed(x.b)}; }
  static FASTGAN_FN Word to_unsigned(Int x) { return {L::to_unsigned(x.a), L::to_unsigned(x.b)}; }
  static FASTGAN_FN Word bits(Float x) { return {L::bits(x.a), L::bits(x.b)}; }
  static FASTGAN_FN Float from_bits(Word x) { return {L::from_bits(x.a), L::from_bits(x.b)}; }
  static FASTGAN_FN Float minimum(Float x, float y) {
    return {L::minimum(x.a, y), L::minimum(x.b, y)};
  }
  static FASTGAN_FN Float square_root(Float x) { return {L::square_root(x.a), L::square_root(x.b)}; }
  template <class Mask>
  static FASTGAN_FN Float select(Mask mask, Float x, Float y) {
    return {L::select(mask.a, x.a, y.a), L::select(mask.b, x.b, y.b)};
  }
  template <class Mask>
  static FASTGAN_FN Wide select_wide(Mask mask, Wide x, Wide y) {
    return {L::select_wide(mask.a, x.a, y.a), L::select_wide(mask.b, x.b, y.b)};
  }
  static FASTGAN_FN void store_interleaved(float* out, Float x, Float y) {
    L::store_interleaved(out, x.a, y.a);
    L::store_interleaved(out + 2 * sizeof(x.a) / sizeof(float), x.b, y.b);
  }
};

}  // namespace
}  // namespace fastgan
