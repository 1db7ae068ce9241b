//! Free memory, and the number of files that it has room for.

use std::fs;

/// Default number of files transcribed at the same time: on two cores more are hardly faster.
const MOST_AT_ONCE: usize = 4;

/// Returns how many of `n_files` files to transcribe at the same time, if each takes `bytes_per_file`: no more than half of
/// the memory that is free has room for.
pub(crate) fn n_at_once(n_files: usize, bytes_per_file: u64) -> usize {
    let room = available().map_or(MOST_AT_ONCE as u64, |bytes| {
        bytes / 2 / bytes_per_file.max(1)
    });
    let most = usize::try_from(room).unwrap_or(MOST_AT_ONCE);
    n_files.min(most).clamp(1, MOST_AT_ONCE)
}

/// Returns the free memory of the machine, or of the process's cgroup if that has less; `None` if it is not known.
fn available() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(cgroup_room().map_or(1024 * kib, |room| room.min(1024 * kib)))
}

/// Returns what the limit of the process's cgroup (version 2) leaves.
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
    fn there_are_as_many_files_at_once_as_there_is_room_for() {
        assert_eq!(n_at_once(1, 1), 1);
        assert_eq!(n_at_once(40, 1), MOST_AT_ONCE);
        assert_eq!(
            n_at_once(3, u64::MAX),
            if available().is_some() { 1 } else { 3 }
        );
    }
}
