//! Free memory, and the number of files to transcribe at the same time.

use std::fs;

/// Default number of files transcribed at the same time: on two cores, more give hardly any speed.
pub(crate) const FILES: usize = 4;
/// Default number of pieces of a file transcribed at the same time.
pub(crate) const PIECES: usize = 8;

/// Returns the number of files or pieces to transcribe at the same time: `most`, or as many as fit into half of the free
/// memory, at least one. `bytes`: of each.
pub(crate) fn n_at_once(most: usize, bytes: u64) -> usize {
    let room = available().map_or(u64::MAX, |available| available / 2 / bytes.max(1));
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    most.min(room).max(1)
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
    fn the_number_at_once_is_limited_by_memory() {
        assert_eq!(n_at_once(1, 1), 1);
        assert_eq!(n_at_once(FILES, 1), FILES);
        let expected = if available().is_some() { 1 } else { 3 };
        assert_eq!(n_at_once(3, u64::MAX), expected);
    }
}
