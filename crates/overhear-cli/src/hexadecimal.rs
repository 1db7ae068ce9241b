//! Digests as text.

/// Returns the hexadecimal digits of `bytes`, lower case.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
