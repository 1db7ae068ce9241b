//! Rounding of f32 to bfloat16 and to IEEE halves.

use half::f16;

use crate::simd::{Element, Simd};

/// Rounds to the nearest bf16, ties to even; NaN stays NaN. Branch-free, so that loops are vectorised.
#[inline(always)]
pub(crate) fn round_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    (if x.is_nan() { 0x7fc0 } else { rounded }) as u16
}

/// Rounds consecutive elements to the nearest f16; values beyond its range saturate.
#[inline(always)]
pub(crate) fn convert_f16<S: Simd, E: Element>(s: S, to: &mut [f16], from: &[E]) {
    let (least, largest) = (f16::MIN.to_f32(), f16::MAX.to_f32());
    let (least, largest) = (s.splat(least), s.splat(largest));
    for (to, from) in to.chunks_mut(S::LANES).zip(from.chunks(S::LANES)) {
        // In this order of operands NaN stays NaN.
        let v = s.min(largest, s.max(least, E::read(s, from)));
        s.write_f16(to, v);
    }
}
