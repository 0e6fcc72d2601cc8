//! Parallel loops: each task runs once, for any number of tasks, in nested loops and from several threads at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parlor_kernels::parallel::threads;

#[test]
fn every_task_runs_once() {
    for tasks in [0, 1, 2, 3, 17, 1000] {
        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        threads::parallel_for(tasks, |index| {
            counts[index].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{tasks} tasks");
    }
}

#[test]
fn nested_and_concurrent_loops_complete() {
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    threads::parallel_for(5, |_| {
                        threads::parallel_for(3, |_| {
                            done.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                }
            });
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), 4 * 200 * 5 * 3);
}

#[test]
fn serial_work_stays_on_its_thread() {
    let own = std::thread::current().id();
    let assert_serial = |context: &str| {
        let done = AtomicUsize::new(0);
        threads::parallel_for(1000, |_| {
            done.fetch_add(usize::from(std::thread::current().id() == own), Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 1000, "{context}");
    };
    threads::serial(|| {
        threads::serial(|| assert_serial("within"));
        // The end of the inner call does not end the outer one.
        assert_serial("after the inner");
    });
    // After a panic the thread uses the pool again: two tasks run at once, unless other tests occupy the pool each time.
    let panicked = std::panic::catch_unwind(|| threads::serial(|| panic!("within")));
    assert!(panicked.is_err());
    let tasks_overlap = || {
        let (started, overlapped) = (AtomicUsize::new(0), AtomicUsize::new(0));
        threads::parallel_for(2, |_| {
            started.fetch_add(1, Ordering::SeqCst);
            let since = Instant::now();
            while started.load(Ordering::SeqCst) < 2 && since.elapsed() < Duration::from_millis(20) {
                std::thread::yield_now();
            }
            overlapped.fetch_add(usize::from(started.load(Ordering::SeqCst) == 2), Ordering::SeqCst);
        });
        overlapped.into_inner() == 2
    };
    assert!(threads::count() == 1 || (0..500).any(|_| tasks_overlap()));
}

#[test]
fn writes_of_tasks_are_visible_afterwards() {
    let mut values = vec![0usize; 10_000];
    for round in 0..50 {
        threads::for_each_chunk(&mut values, 7, |part, first| {
            for (offset, value) in part.iter_mut().enumerate() {
                *value += first + offset + round;
            }
        });
    }
    let rounds: usize = (0..50).sum();
    assert!(values.iter().enumerate().all(|(index, &value)| value == 50 * index + rounds));
}

#[test]
fn a_panic_in_a_task_reaches_the_caller_and_the_pool_survives() {
    let result = std::panic::catch_unwind(|| {
        threads::parallel_for(64, |index| assert!(index != 40, "task 40"));
    });
    assert!(result.is_err());
    let done = AtomicUsize::new(0);
    threads::parallel_for(64, |_| {
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(done.load(Ordering::Relaxed), 64);
}
