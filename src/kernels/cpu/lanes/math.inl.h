// exp over sixteen lanes, the same operations in the same order on every instruction set.
#pragma once

namespace tandem::cpu::lanes {

// exp(x) for x <= 88.37, to about 1 ulp of float32 on [-87.3, 88.3]; 0 below and for NaN.
// Method: x = n ln2 + r with |r| <= ln2 / 2, a polynomial for exp(r) (Cephes' expf coefficients),
// then n is added to the exponent. Adding 1.5 * 2^23 rounds to an integer (nearest even) and leaves
// n in the low mantissa bits. What this makes of x below the lowest is thrown away at the end.
template <typename V>
inline V exp_bounded(V x) {
  const V lowest = V::broadcast(-87.33654F);  // exp of it is the smallest normal float
  const V magic = V::broadcast(12582912.0F);
  const V shifted = V::fma(x, V::broadcast(1.44269504F), magic);
  const V n = shifted - magic;
  V r = V::fma(n, V::broadcast(-0.693359375F), x);
  r = V::fma(n, V::broadcast(2.12194440e-4F), r);
  V p = V::broadcast(1.9875691500e-4F);
  p = V::fma(p, r, V::broadcast(1.3981999507e-3F));
  p = V::fma(p, r, V::broadcast(8.3334519073e-3F));
  p = V::fma(p, r, V::broadcast(4.1665795894e-2F));
  p = V::fma(p, r, V::broadcast(1.6666665459e-1F));
  p = V::fma(p, r, V::broadcast(5.0000001201e-1F));
  p = V::fma(p, r * r, r + V::broadcast(1.0F));
  return V::zero_below(x, lowest, V::add_exponent(p, shifted));
}

// The same for any x, saturating at exp(88.37).
template <typename V>
inline V exp(V x) {
  return exp_bounded(V::min(V::broadcast(88.37626F), x));  // in this order a NaN stays one
}

}  // namespace tandem::cpu::lanes
