//! End of the process when memory is exhausted: a panic for lack of memory is as a failed allocation.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::io::Error;
use std::process::Command;

use overhear_kernels::ExitWithoutMemory;

static MEMORY: ExitWithoutMemory = ExitWithoutMemory {
    message: "out of memory",
    code: 71,
};

/// Environment variable of the child process, which panics.
const CHILD: &str = "OVERHEAR_PANIC";

#[test]
fn a_panic_for_lack_of_memory_ends_the_process_in_one_line() {
    if let Ok(message) = std::env::var(CHILD) {
        MEMORY.exit_on_panic();
        let _ = std::thread::spawn(move || panic!("{message}")).join();
        return;
    }
    let child = |message: &str| {
        let name = "a_panic_for_lack_of_memory_ends_the_process_in_one_line";
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, message)
            .output()
            .unwrap()
    };
    // As `std::thread` words it.
    let error = Error::from_raw_os_error(libc::ENOMEM);
    let ended = child(&format!("failed to allocate an alternative stack: {error}"));
    assert_eq!(ended.status.code(), Some(71));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "out of memory\n");
    let other = child("something else");
    assert_eq!(other.status.code(), Some(0));
    assert!(
        String::from_utf8(other.stderr)
            .unwrap()
            .contains("something else")
    );
}
