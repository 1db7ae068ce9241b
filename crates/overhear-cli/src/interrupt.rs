//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

/// How often waiting code looks whether a signal came.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// Remembers the first signal. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Takes over SIGINT and SIGTERM. If the system refuses, they keep ending the process at once.
    pub(crate) fn install() -> Self {
        let interrupt = Self::default();
        let second = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal sets `second` only after it was looked at.
            let _ = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&second));
            let _ = flag::register(signal, Arc::clone(&second));
            let _ = flag::register_usize(signal, Arc::clone(&interrupt.0), signal as usize);
        }
        interrupt
    }

    /// The signal that came, if one did.
    pub(crate) fn signal(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::SeqCst))
            .ok()
            .filter(|&signal| signal != 0)
    }

    /// [`Failure::Interrupted`] if a signal came.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.signal()
            .map_or(Ok(()), |signal| Err(Failure::Interrupted(signal)))
    }

    /// Runs `work`, which may block for any time (reading a pipe, loading a model), on a thread of its own,
    /// and gives up waiting for it when a signal comes.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, receiver) = mpsc::channel();
        let worker = thread::spawn(move || {
            let _ = sender.send(work());
        });
        loop {
            match receiver.recv_timeout(POLL) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout) => self.check()?,
                Err(RecvTimeoutError::Disconnected) => propagate(worker),
            }
        }
    }
}

/// Ends with the panic of a worker that went away without a result: a bug, exit code 101.
pub(crate) fn propagate(worker: thread::JoinHandle<()>) -> ! {
    match worker.join() {
        Err(panic) => std::panic::resume_unwind(panic),
        Ok(()) => unreachable!("a worker sends its result or panics"),
    }
}
