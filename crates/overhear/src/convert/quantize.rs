//! Quantisation to blocks of ggml as by its reference (`ggml-quants.c::quantize_row_*_ref`), to the byte.

use half::f16;

use super::ElementType;

/// Number of elements of a block.
pub(super) const BLOCK: usize = 32;

/// Appends a block of type `element`. Returns whether scale and minimum are within the range of f16.
///
/// # Panics
/// If elements of this type are not in blocks.
pub(super) fn append(element: ElementType, block: &[f32; BLOCK], bytes: &mut Vec<u8>) -> bool {
    // Of equal magnitudes, the first counts.
    let largest = block
        .iter()
        .fold(0.0_f32, |largest, &x| match x.abs() > largest.abs() {
            true => x,
            false => largest,
        });
    let min = block.iter().copied().fold(f32::MAX, f32::min);
    let max = block.iter().copied().fold(-f32::MAX, f32::max);
    // Scale, minimum, what is added to a quotient before it is truncated, and the largest number.
    let (scale, least, offset, limit) = match element {
        ElementType::Q8_0 => (largest.abs() / 127.0, None, 0.0, 0),
        ElementType::Q5_0 => (largest / -16.0, None, 16.5, 31),
        ElementType::Q4_0 => (largest / -8.0, None, 8.5, 15),
        ElementType::Q5_1 => ((max - min) / 31.0, Some(min), 0.5, 31),
        ElementType::Q4_1 => ((max - min) / 15.0, Some(min), 0.5, 15),
        _ => unreachable!("{element} has no blocks"),
    };
    let mut is_within = true;
    for half in [Some(scale), least]
        .into_iter()
        .flatten()
        .map(f16::from_f32)
    {
        bytes.extend(half.to_le_bytes());
        is_within &= half.is_finite();
    }
    // The reference divides by the scale as it is before it is rounded to f16.
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    if element == ElementType::Q8_0 {
        bytes.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
        return is_within;
    }
    let least = least.unwrap_or(0.0);
    let steps = block.map(|x| (((x - least) * inverse + offset) as u8).min(limit));
    if matches!(element, ElementType::Q5_0 | ElementType::Q5_1) {
        let fifth = (0..).zip(steps).map(|(i, step)| u32::from(step >> 4) << i);
        bytes.extend(fifth.sum::<u32>().to_le_bytes());
    }
    let (low, high) = steps.split_at(BLOCK / 2);
    bytes.extend(
        low.iter()
            .zip(high)
            .map(|(low, high)| low & 0xf | (high & 0xf) << 4),
    );
    is_within
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of the numbers of the test by the package gguf 0.19.
    const CASES: [(ElementType, &str); 5] = [
        (
            ElementType::Q8_0,
            "4d2681fb3021cd355938d2293a0890d5d590083a29d2385935cd2130fb81c3c07aee",
        ),
        (
            ElementType::Q5_0,
            "4032ec0e7743107f56a47ab77ba74a65f701828bfbe2",
        ),
        (
            ElementType::Q5_1,
            "533240c2ec0e7743107f56a479b66b974a65f701828afae2",
        ),
        (ElementType::Q4_0, "403680c8bb5ac5ebbe5ca5bb8c084145f571"),
        (
            ElementType::Q4_1,
            "893640c280b7ab5ab5dbbd5ba5ba7b084145f571",
        ),
    ];

    #[test]
    fn blocks_are_those_of_the_reference() {
        let number = |i: usize| ((i * i * 37 + 11 * i) % 101) as f32 - 50.0;
        let numbers: Vec<f32> = (0..BLOCK).map(|i| number(i) / 16.0).collect();
        for (element, expected) in CASES {
            let mut bytes = Vec::new();
            assert!(element.encode(&numbers, &mut bytes));
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{element}");
            bytes.clear();
            assert!(element.encode(&[0.0; BLOCK], &mut bytes), "zeros");
            assert!(!element.encode(&[1e30; BLOCK], &mut bytes), "beyond f16");
        }
    }
}
