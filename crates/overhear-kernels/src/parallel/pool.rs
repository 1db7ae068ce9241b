//! Thread pool that the kernels share.
//!
//! A step of the decoder is some hundred kernels of a few tens of microseconds, so starting one must cost far less
//! than waking a thread: workers that have just worked spin for [`SPIN`] and only then sleep. The caller works too
//! and does not wait for workers that have not joined: a worker that wakes late, or that the system does not
//! schedule, costs nothing.
//!
//! One atomic word holds the protocol: the number of the job, whether it is open to join, and how many workers are
//! inside. A worker joins by a compare-and-swap that fails once the job is closed, and the caller returns only when
//! the job is closed and nobody is inside: that is why a job may borrow from the caller's stack.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::disjoint::Disjoint;

/// Time for which a thread spins before it sleeps: several times the gap between two kernels of a step, and about the
/// cost of falling asleep and being woken.
const SPIN: Duration = Duration::from_micros(50);

/// Bit of the state: the job is open to join.
const OPEN: u64 = 1 << 31;
/// Bit of the state: the caller sleeps until the last worker leaves.
const WAITING: u64 = 1 << 30;
/// Bits of the state: number of workers inside.
const INSIDE: u64 = WAITING - 1;
/// Increment of the state: the next job. The job's number is the upper half; it may wrap.
const NEXT_JOB: u64 = 1 << 32;

thread_local! {
    /// Whether this thread is running a task, whose own `run` must then not wait for the pool.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// A fixed set of threads that run the tasks of one kernel at a time.
///
/// Several threads may call [`Pool::run`] at once: their jobs follow each other.
pub struct Pool {
    shared: Arc<Shared>,
    /// One job at a time.
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Job number, [`OPEN`], [`WAITING`] and the count of workers inside.
    state: AtomicU64,
    /// Current job. Written while no worker is inside and the job is closed, read inside.
    job: UnsafeCell<Option<Job>>,
    /// Next task that nobody has claimed.
    next_task: AtomicUsize,
    /// First panic of the job.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Number of sleeping workers; changed under `bed`.
    n_asleep: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
    /// Where the caller sleeps until the last worker leaves.
    exit: Mutex<()>,
    left: Condvar,
    stop: AtomicBool,
}

#[derive(Clone, Copy)]
struct Job {
    n_tasks: usize,
    /// Closure of the caller; its lifetime is erased and guaranteed by the protocol.
    task: *const (dyn Fn(usize) + Sync),
}

// SAFETY: `job` is the only field that is not `Sync`. It is written by the caller that holds `turn`, while the state
// says closed and nobody inside, and read only by workers inside; joining (Acquire) follows opening (Release), and
// the next write follows the last leaving. The closure it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is never used outside a job.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `n_threads` threads, including the caller's; fewer if the system refuses to start more.
    ///
    /// # Panics
    /// If `n_threads` is 0.
    #[must_use]
    pub fn new(n_threads: usize) -> Self {
        assert!(n_threads > 0, "a pool needs a thread");
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next_task: AtomicUsize::new(0),
            panic: Mutex::new(None),
            n_asleep: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
            exit: Mutex::new(()),
            left: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let start = |i| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("overhear-{i}"));
            thread.spawn(move || shared.work()).ok()
        };
        let workers = (1..n_threads).map_while(start).collect();
        Self {
            shared,
            turn: Mutex::new(()),
            workers,
        }
    }

    /// Default number of threads: the physical cores that this process may use, at most the processors that its
    /// affinity and its control group grant. Two threads of one core share its arithmetic units, which the kernels
    /// keep busy.
    #[must_use]
    pub fn default_threads() -> usize {
        let granted = std::thread::available_parallelism().map_or(1, usize::from);
        physical_cores().map_or(granted, |cores| cores.clamp(1, granted))
    }

    /// Number of threads, including the caller's.
    #[must_use]
    pub fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0)` to `task(n_tasks - 1)`, each once, in any order and on any thread, and returns when all are
    /// done. A call from within a task runs its tasks on the spot.
    ///
    /// # Panics
    /// If a task panics: with its message, after the other threads have stopped; tasks not yet started are dropped.
    pub fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || n_tasks < 2 || IN_TASK.get() {
            return (0..n_tasks).for_each(task);
        }
        let turn = lock(&self.turn);
        self.shared.open(n_tasks, task);
        self.shared.claim_tasks(n_tasks, task);
        self.shared.close();
        let panic = lock(&self.shared.panic).take();
        drop(turn);
        if let Some(message) = panic {
            resume_unwind(message);
        }
    }

    /// Runs `task` on each of `items` and its row of `rows`, `[items.len(), n]`, as [`Pool::run`] does.
    ///
    /// # Panics
    /// If `rows` are not as many, or a task panics.
    pub fn run_rows<T: Send>(
        &self,
        rows: &mut [f32],
        items: &mut [T],
        task: &(dyn Fn(&mut [f32], &mut T) + Sync),
    ) {
        let n_items = items.len();
        let n = rows.len().checked_div(n_items).unwrap_or(0);
        assert_eq!(rows.len(), n_items * n, "not {n_items} rows");
        let (rows, items) = (Disjoint::new(rows), Disjoint::new(items));
        self.run(n_items, &|i| {
            // SAFETY: a task runs once, and row and item are its own.
            let (row, item) = unsafe { (rows.take(i * n, n), items.take(i, 1)) };
            task(row, &mut item[0]);
        });
    }
}

impl Shared {
    /// Lets workers into a job and wakes as many as it can use. Only `close` may follow.
    fn open(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        // SAFETY: the lifetime alone changes. The pointer is used inside the job only, which `close` ends.
        let task: *const (dyn Fn(usize) + Sync) = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task)
        };
        // SAFETY: the caller holds `turn`, the last job is closed and nobody is inside.
        unsafe { *self.job.get() = Some(Job { n_tasks, task }) };
        self.next_task.store(0, Ordering::Relaxed);
        let state = self.state.load(Ordering::Relaxed) & !(NEXT_JOB - 1);
        // SeqCst against `n_asleep`: either the worker that falls asleep sees this job, or we see the worker.
        self.state
            .store(state.wrapping_add(NEXT_JOB) | OPEN, Ordering::SeqCst);
        if self.n_asleep.load(Ordering::SeqCst) > 0 {
            let _bed = lock(&self.bed);
            for _ in 0..self.n_asleep.load(Ordering::Relaxed).min(n_tasks - 1) {
                self.wake.notify_one();
            }
        }
    }

    /// Runs tasks until none is left. A panic is kept for the caller and ends the job.
    fn claim_tasks(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        IN_TASK.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let i = self.next_task.fetch_add(1, Ordering::Relaxed);
                if i >= n_tasks {
                    break;
                }
                task(i);
            }
        }));
        IN_TASK.set(false);
        if let Err(message) = outcome {
            self.next_task.store(n_tasks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(message);
        }
    }

    /// Lets nobody in any more and waits until nobody is inside.
    fn close(&self) {
        let state = self.state.fetch_and(!OPEN, Ordering::AcqRel);
        if state & INSIDE == 0 || spin_until(|| self.state.load(Ordering::Acquire) & INSIDE == 0) {
            return;
        }
        let mut exit = lock(&self.exit);
        self.state.fetch_or(WAITING, Ordering::AcqRel);
        while self.state.load(Ordering::Acquire) & INSIDE != 0 {
            exit = self.left.wait(exit).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Main loop of a worker.
    fn work(&self) {
        let mut seen = 0;
        while let Some(state) = self.next_job(seen) {
            seen = state / NEXT_JOB;
            if self.join(state) {
                // SAFETY: this thread is inside, so nobody writes the job.
                let job = unsafe { *self.job.get() };
                if let Some(Job { n_tasks, task }) = job {
                    // SAFETY: this thread is inside, so the caller is still in `run`, which borrows the closure.
                    self.claim_tasks(n_tasks, unsafe { &*task });
                }
                self.leave();
            }
        }
    }

    /// Waits for a job other than number `seen`, spinning, then asleep. Returns its state, or `None` when the pool is
    /// dropped.
    fn next_job(&self, seen: u64) -> Option<u64> {
        let is_new = || self.state.load(Ordering::Acquire) / NEXT_JOB != seen;
        if !spin_until(|| is_new() || self.stop.load(Ordering::Relaxed)) {
            let mut bed = lock(&self.bed);
            self.n_asleep.fetch_add(1, Ordering::SeqCst);
            while self.state.load(Ordering::SeqCst) / NEXT_JOB == seen
                && !self.stop.load(Ordering::Relaxed)
            {
                bed = self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner);
            }
            self.n_asleep.fetch_sub(1, Ordering::SeqCst);
        }
        (!self.stop.load(Ordering::Relaxed)).then(|| self.state.load(Ordering::Acquire))
    }

    /// Enters the job of `state`, unless it has been closed.
    fn join(&self, mut state: u64) -> bool {
        let job = state / NEXT_JOB;
        while state & OPEN != 0 && state / NEXT_JOB == job {
            match self.state.compare_exchange_weak(
                state,
                state + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Leaves the job; the last one wakes a caller that sleeps.
    fn leave(&self) {
        let before = self.state.fetch_sub(1, Ordering::AcqRel);
        if before & INSIDE == 1 && before & WAITING != 0 {
            // Taken and dropped: a caller that has seen us inside is then either asleep or has not yet looked again.
            drop(lock(&self.exit));
            self.left.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let _bed = lock(&self.shared.bed);
            self.shared.stop.store(true, Ordering::Relaxed);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so there is nothing to learn here.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("n_threads", &self.n_threads())
            .finish()
    }
}

/// Spins until `done`, for [`SPIN`] at most. Returns whether it was done.
fn spin_until(done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}

/// Locks a mutex that guards no data that a panic could have left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The physical cores among the processors that this process may run on, where Linux tells.
fn physical_cores() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = BTreeSet::new();
    for processor in parse_list(allowed)? {
        let siblings =
            format!("/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list");
        cores.insert(std::fs::read_to_string(siblings).ok()?);
    }
    Some(cores.len())
}

/// The numbers of a list such as `0-3,8`.
fn parse_list(list: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_lists_are_read() {
        assert_eq!(parse_list("\t0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_list("5"), Some(vec![5]));
        assert_eq!(parse_list("x"), None);
    }

    #[test]
    fn the_default_is_at_least_one_thread_and_no_more_than_granted() {
        let granted = std::thread::available_parallelism().map_or(1, usize::from);
        assert!((1..=granted).contains(&Pool::default_threads()));
    }

    #[test]
    fn a_job_closes_while_its_number_wraps() {
        let pool = Pool::new(3);
        pool.shared
            .state
            .store(u64::from(u32::MAX - 5) << 32, Ordering::SeqCst);
        let count = AtomicUsize::new(0);
        for _ in 0..20 {
            pool.run(4, &|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(count.into_inner(), 80);
    }
}
