//! Signals: the first one requests an orderly end, the second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;
use crate::warnings;

/// Interval at which waiting code checks for a signal.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// Record of the first signal. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Installs handlers of SIGINT, SIGTERM and SIGHUP, except for those that the parent process set to be ignored, as
    /// `nohup` does. If the system refuses, the default handlers remain and end the process at once.
    pub(crate) fn install() -> Self {
        let interrupt = Self::default();
        let second = Arc::new(AtomicBool::new(false));
        let ignored = ignored_signals();
        for signal in ends(ignored) {
            // In this order: the first signal sets `second` only after it was checked.
            let _ = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&second));
            let _ = flag::register(signal, Arc::clone(&second));
            let _ = flag::register_usize(signal, Arc::clone(&interrupt.0), signal as usize);
        }
        #[cfg(unix)]
        if !ignored.is_some_and(|ignored| is_in(ignored, signal_hook::consts::SIGXFSZ)) {
            // With this handler, a write beyond `ulimit -f` fails and is reported instead of ending the process.
            let _ = flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
        }
        interrupt
    }

    /// Returns the signal that was received, if any.
    pub(crate) fn signal(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::SeqCst))
            .ok()
            .filter(|&signal| signal != 0)
    }

    /// Returns [`Failure::Interrupted`] if a signal was received.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let left = String::new();
        self.signal()
            .map_or(Ok(()), |signal| Err(Failure::Interrupted { signal, left }))
    }

    /// Runs `work`, which may block for any time (reading a pipe, loading a model), on a thread of its own, and stops
    /// waiting for it when a signal is received.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, receiver) = mpsc::channel();
        let worker = start(move || {
            let _ = sender.send(work());
        })?;
        loop {
            match receiver.recv_timeout(POLL) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout) => self.check()?,
                Err(RecvTimeoutError::Disconnected) => propagate(worker),
            }
        }
    }
}

/// Runs `work` on a thread of its own, whose warnings refer to this thread's current file.
///
/// # Errors
/// [`Failure::System`] if the system cannot start a thread.
pub(crate) fn start(
    work: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, Failure> {
    let file = warnings::current_file();
    let work = move || {
        warnings::about(&file);
        work();
    };
    thread::Builder::new().spawn(work).map_err(|error| {
        Failure::System(format!(
            "cannot start a thread: {error}; end other processes, or raise the limits (ulimit -u, ulimit -v)"
        ))
    })
}

/// Resumes the panic of a worker that ended without a result: a bug, exit code 101.
pub(crate) fn propagate(worker: thread::JoinHandle<()>) -> ! {
    match worker.join() {
        Err(panic) => std::panic::resume_unwind(panic),
        Ok(()) => unreachable!("a worker sends its result or panics"),
    }
}

/// Returns the signals that request an end, without those `ignored`. If it is unknown whether SIGHUP is ignored, its
/// default handler remains: handling it would end a `nohup overhear` with its terminal, which is worse than an end
/// without a message.
fn ends(ignored: Option<u64>) -> Vec<i32> {
    let mut signals = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    if ignored.is_some() {
        signals.push(signal_hook::consts::SIGHUP);
    }
    signals.retain(|&signal| !ignored.is_some_and(|ignored| is_in(ignored, signal)));
    signals
}

/// Returns the signals that were ignored when this process started, one bit each from SIGHUP (1) on; on Linux only.
fn ignored_signals() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

fn is_in(signals: u64, signal: i32) -> bool {
    signals >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn signals_that_are_to_be_ignored_are_left_alone() {
        use signal_hook::consts::SIGHUP;
        assert_eq!(ends(Some(0)), [SIGINT, SIGTERM, SIGHUP]);
        assert_eq!(ends(Some(0b11)), [SIGTERM], "nohup, and a job of a script");
        assert_eq!(ends(None), [SIGINT, SIGTERM]);
    }
}
