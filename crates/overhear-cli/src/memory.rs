//! Free memory, and the number of files to transcribe at the same time.

use std::fs;
use std::path::Path;

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
    let kib = value(&meminfo, "MemAvailable:")?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let room = group.and_then(|group| cgroup_room(Path::new("/sys/fs/cgroup"), group));
    Some(room.map_or(1024 * kib, |room| room.min(1024 * kib)))
}

/// Returns the free memory in bytes within the limits of a cgroup (version 2) and of its ancestors up to the one at
/// `root`; `None` without limits. Page cache that the kernel can reclaim at once (`inactive_file`) is free.
fn cgroup_room(root: &Path, group: &str) -> Option<u64> {
    let room = |group: &Path| -> Option<u64> {
        let read = |name: &str| fs::read_to_string(root.join(group).join(name)).ok();
        let max: u64 = read("memory.max")?.trim().parse().ok()?;
        let current: u64 = read("memory.current")?.trim().parse().ok()?;
        let cached = read("memory.stat").and_then(|stat| value(&stat, "inactive_file"));
        Some(max.saturating_sub(current.saturating_sub(cached.unwrap_or(0))))
    };
    Path::new(group).ancestors().filter_map(room).min()
}

/// Returns the number after `name` at the beginning of a line.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut line = lines.find(|line| line.clone().next() == Some(name))?;
    line.nth(1)?.parse().ok()
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
    #[test]
    fn limits_of_all_ancestors_count_and_page_cache_is_free() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |group: &str, max: &str, current: &str, stat: &str| {
            let folder = root.path().join(group);
            fs::create_dir_all(&folder).expect("a folder");
            for (name, text) in [("max", max), ("current", current), ("stat", stat)] {
                fs::write(folder.join(format!("memory.{name}")), text).expect("a file");
            }
        };
        write("a", "1000\n", "900\n", "active_file 7\ninactive_file 250\n");
        write("a/b", "max\n", "900\n", "inactive_file 250\n");
        write("a/b/c", "800\n", "100\n", "");
        let room = |group| cgroup_room(root.path(), group);
        assert_eq!(room("a/b/c"), Some(350));
        assert_eq!(room("a/b"), Some(350));
        assert_eq!(room(""), None, "the root has no limit");
    }
}
