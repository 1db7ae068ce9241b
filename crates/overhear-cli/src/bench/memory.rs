//! Peak memory of this process, on Linux.

use std::fs;

/// Resets the peak, so that measurements before the model do not count.
pub(super) fn reset_peak() {
    // 5 resets VmHWM, see proc(5). A system that refuses reports the peak of the whole process.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Returns the peak in MB of a million bytes.
pub(super) fn peak_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}
