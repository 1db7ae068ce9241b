//! Free memory, and the number of files to transcribe at the same time.

use std::fs;

/// Maximum number of files transcribed at the same time: on two cores, more give hardly any speed.
const MAX_AT_ONCE: usize = 4;

/// Returns the number of files to transcribe at the same time, of `n_files` that take `bytes_per_file` each: as many as
/// fit into half of the free memory.
pub(crate) fn n_at_once(n_files: usize, bytes_per_file: u64) -> usize {
    let room = available().map_or(MAX_AT_ONCE as u64, |bytes| {
        bytes / 2 / bytes_per_file.max(1)
    });
    let most = usize::try_from(room).unwrap_or(MAX_AT_ONCE);
    n_files.min(most).clamp(1, MAX_AT_ONCE)
}

/// Returns the free memory in bytes of the machine, or of the process's cgroup if that has less; `None` if it is
/// unknown.
fn available() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(cgroup_room().map_or(1024 * kib, |room| room.min(1024 * kib)))
}

/// Returns the free memory in bytes within the limit of the process's cgroup (version 2).
fn cgroup_room() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let number = |name: &str| -> Option<u64> {
        let path = format!("/sys/fs/cgroup/{group}/{name}");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_files_is_limited_by_memory() {
        assert_eq!(n_at_once(1, 1), 1);
        assert_eq!(n_at_once(40, 1), MAX_AT_ONCE);
        assert_eq!(
            n_at_once(3, u64::MAX),
            if available().is_some() { 1 } else { 3 }
        );
    }
}
