//! Process-level code that needs `unsafe`: exit when memory is exhausted, and detection of a closed standard output.
//!
//! It is in this crate because no other may contain `unsafe`. Without it the standard library prints several lines
//! and aborts when memory is exhausted (`alloc_error_hook` is not stable), and opens `/dev/null` in place of a closed
//! standard output before `main`, so that output is lost silently.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

/// A `#[global_allocator]` that allocates as [`System`] does; where that fails, it prints `message` as a line on standard
/// error and ends the process with `code`.
#[derive(Debug)]
pub struct ExitWithoutMemory {
    /// Message, without its line end.
    pub message: &'static str,
    /// Exit code.
    pub code: i32,
}

impl ExitWithoutMemory {
    /// `pointer`, unless it is null.
    #[inline]
    fn allocated(&self, pointer: *mut u8) -> *mut u8 {
        if pointer.is_null() {
            self.exit();
        }
        pointer
    }

    /// Sets the panic hook: a panic whose message contains the system's error for exhausted memory ends the process as a
    /// failed allocation does. So the standard library panics where it cannot map the signal stack of a new thread.
    pub fn exit_on_panic(&'static self) {
        #[cfg(unix)]
        {
            let no_memory = std::io::Error::from_raw_os_error(libc::ENOMEM).to_string();
            let default_hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if info
                    .payload_as_str()
                    .is_some_and(|message| message.contains(&no_memory))
                {
                    self.exit();
                }
                default_hook(info);
            }));
        }
    }

    /// Ends the process without allocating, unwinding or taking a lock.
    #[cold]
    #[inline(never)]
    fn exit(&self) -> ! {
        static SAID: AtomicBool = AtomicBool::new(false);
        if SAID.swap(true, Ordering::AcqRel) {
            // Another thread is on its way out.
            loop {
                std::hint::spin_loop();
            }
        }
        end(self.message, self.code)
    }
}

// SAFETY: every call goes to `System`, which keeps the contract; what it returns is passed on or the process ends.
unsafe impl GlobalAlloc for ExitWithoutMemory {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        self.allocated(unsafe { System.alloc(layout) })
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        self.allocated(unsafe { System.alloc_zeroed(layout) })
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`, and `pointer` is of `System`.
        self.allocated(unsafe { System.realloc(pointer, layout, size) })
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` is of `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// By system calls alone: any lock may be held by a thread that waits for memory, this one included.
#[cfg(unix)]
fn end(message: &'static str, code: i32) -> ! {
    for part in [message, "\n"] {
        // SAFETY: the pointer and the length are those of a string.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: it ends the process and returns to nobody.
    unsafe { libc::_exit(code) }
}

#[cfg(not(unix))]
#[allow(clippy::exit)]
fn end(message: &'static str, code: i32) -> ! {
    use std::io::Write;
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(message.as_bytes());
    let _ = stderr.write_all(b"\n");
    std::process::exit(code)
}

/// Whether standard output was closed, or open to read only, when the process began; `false` where that is not known.
#[must_use]
pub fn stdout_was_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}

static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Run by the loader before Rust's runtime begins, and so before that repairs standard output.
#[cfg(target_os = "linux")]
#[used]
// SAFETY: the section holds pointers to functions that the loader calls once, in one thread, with arguments that
// `look_at_stdout` takes no notice of.
#[unsafe(link_section = ".init_array")]
static LOOK_AT_STDOUT: extern "C" fn() = look_at_stdout;

#[cfg(target_os = "linux")]
extern "C" fn look_at_stdout() {
    // SAFETY: F_GETFL takes no argument, and of a file that is not open it is an error.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL) };
    let is_closed = flags == -1 || flags & libc::O_ACCMODE == libc::O_RDONLY;
    STDOUT_CLOSED.store(is_closed, Ordering::Relaxed);
}
