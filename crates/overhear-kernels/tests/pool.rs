//! The thread pool under load.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use overhear_kernels::Pool;

/// Short runs enough to meet a worker in every state.
const RUNS: usize = if cfg!(miri) { 20 } else { 20_000 };

fn run_counts_each_task_once(pool: &Pool, n_tasks: usize) {
    let counts: Vec<AtomicU32> = (0..n_tasks).map(|_| AtomicU32::new(0)).collect();
    pool.run(n_tasks, &|i| {
        counts[i].fetch_add(1, Ordering::Relaxed);
    });
    assert!(
        counts
            .iter()
            .all(|count| count.load(Ordering::Relaxed) == 1)
    );
}

#[test]
fn every_task_runs_once_in_many_short_runs() {
    for threads in [1, 2, 3, 8] {
        let pool = Pool::new(threads);
        assert_eq!(pool.n_threads(), threads);
        for run in 0..RUNS {
            run_counts_each_task_once(&pool, run % 20);
        }
    }
}

#[test]
fn every_item_gets_its_row() {
    for n_items in [0, 1, 2, 7] {
        let mut rows: Vec<f32> = (0..3 * n_items).map(|i| i as f32).collect();
        let mut items = vec![0.0; n_items];
        Pool::new(3).run_rows(&mut rows, &mut items, &|row, item| {
            *item = row.iter().sum();
            row[1] = -1.0;
        });
        for i in 0..n_items {
            let first = 3.0 * i as f32;
            assert_eq!(items[i], 3.0 * first + 3.0);
            assert_eq!(rows[3 * i..][..3], [first, -1.0, first + 2.0]);
        }
    }
}

#[test]
fn workers_that_have_gone_to_sleep_are_woken() {
    let pool = Pool::new(4);
    for _ in 0..if cfg!(miri) { 3 } else { 200 } {
        std::thread::sleep(Duration::from_micros(300));
        run_counts_each_task_once(&pool, 9);
    }
}

#[test]
fn several_threads_take_part() {
    let pool = Pool::new(3);
    let threads = Mutex::new(HashSet::new());
    let entered = AtomicUsize::new(0);
    // Each task waits for the two others, so three threads must be at work.
    pool.run(3, &|_| {
        entered.fetch_add(1, Ordering::SeqCst);
        while entered.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
        threads.lock().unwrap().insert(std::thread::current().id());
    });
    assert_eq!(threads.into_inner().unwrap().len(), 3);
}

#[test]
fn one_pool_serves_several_callers_at_once() {
    let pool = Pool::new(3);
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                (0..RUNS / 4)
                    .for_each(|run| run_counts_each_task_once(pool, 1 + (run + caller) % 7))
            });
        }
    });
}

#[test]
fn a_caller_waits_for_a_worker_that_takes_long() {
    let pool = Pool::new(2);
    let done = AtomicUsize::new(0);
    let caller = std::thread::current().id();
    let joined = AtomicUsize::new(0);
    pool.run(2, &|_| {
        joined.fetch_add(1, Ordering::SeqCst);
        while joined.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        if std::thread::current().id() != caller {
            std::thread::sleep(Duration::from_millis(20));
        }
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(done.into_inner(), 2);
}

#[test]
fn a_panic_in_a_task_reaches_the_caller_and_leaves_the_pool_whole() {
    let pool = Pool::new(3);
    for run in 0..if cfg!(miri) { 3 } else { 100 } {
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(10, &|i| assert!(i != run % 10, "task {i} fails"));
        }));
        let message = result.expect_err("a task has panicked");
        let message = message
            .downcast_ref::<String>()
            .expect("the panic's own message");
        assert_eq!(*message, format!("task {} fails", run % 10));
        run_counts_each_task_once(&pool, 10);
    }
}

#[test]
fn a_run_within_a_task_runs_on_the_spot() {
    let pool = Pool::new(3);
    let count = AtomicUsize::new(0);
    pool.run(4, &|_| {
        pool.run(5, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(count.into_inner(), 20);
}

#[test]
fn pools_start_and_end_without_work() {
    for threads in 1..9 {
        let pool = Pool::new(threads);
        pool.run(0, &|_| unreachable!("there is no task"));
    }
}
