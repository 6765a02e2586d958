#include "truncation.h"

#include <cmath>

namespace fastgan {
namespace {

// A number as the sum of two, some 106 bits of it (Dekker, 1971).
struct Double {
  double high, low;
};

Double sum(double a, double b) {
  const double s = a + b, t = s - a;
  return {s, (a - (s - t)) + (b - t)};
}

Double product(double a, double b) {
  const double p = a * b;
  return {p, std::fma(a, b, -p)};
}

Double add(Double a, Double b) {
  const Double high = sum(a.high, b.high), low = sum(a.low, b.low);
  const Double middle = sum(high.high, high.low + low.high);
  return sum(middle.high, middle.low + low.low);
}

Double multiply(Double a, Double b) {
  const Double p = product(a.high, b.high);
  return sum(p.high, p.low + (a.high * b.low + a.low * b.high));
}

Double divide(Double a, double b) {
  const double first = a.high / b;
  const Double back = product(first, b);
  const Double rest = add(a, {-back.high, -back.low});
  const double second = (rest.high + rest.low) / b;
  return sum(first, second);
}

// exp(-x) for 0 <= x <= 32.
Double exponential(Double x) {
  constexpr int kHalvings = 10;
  const double scale = 1.0 / (1 << kHalvings);
  const Double small = {-x.high * scale, -x.low * scale};
  Double total = {1, 0}, term = {1, 0};
  for (int k = 1; k <= 16; ++k) {
    term = divide(multiply(term, small), k);
    total = add(total, term);
  }
  for (int i = 0; i < kHalvings; ++i) total = multiply(total, total);
  return total;
}

}  // namespace

Parameters truncation(double limit) {
  const double t = limit < 8 ? limit : 8;  // nothing lies beyond 6.7
  const Double squared = product(t, t);
  // Phi(t) - 1/2 = pdf(t) * sum of t^k / k!!
  Double term = {t, 0}, total = term;
  for (int k = 3; term.high > total.high * 1e-34; k += 2) {
    term = divide(multiply(term, squared), k);
    total = add(total, term);
  }
  const Double root = {0.3989422804014327, -2.49232720227773e-17};  // 1 / sqrt(2 pi)
  const Double inside = multiply(multiply(total, exponential({squared.high / 2, squared.low / 2})),
                                 root);
  const Double outside = add({0.5, 0}, {-inside.high, -inside.low});
  float bound = static_cast<float>(limit);
  if (static_cast<double>(bound) > limit) bound = std::nextafter(bound, 0.0f);
  return {static_cast<float>(outside.high), static_cast<float>(inside.high / 2147483648.0), bound};
}

}  // namespace fastgan
