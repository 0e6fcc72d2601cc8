//! Sharing out work: every task once, on however many threads, within tasks and from several threads at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parlor_kernels::parallel::threads;

#[test]
fn every_task_is_done_once() {
    for tasks in [0, 1, 2, 3, 17, 1000] {
        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        threads::parallel_for(tasks, |index| {
            counts[index].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{tasks} tasks");
    }
}

#[test]
fn work_within_work_and_from_several_threads_neither_waits_nor_is_lost() {
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
fn work_alone_stays_on_its_thread() {
    let own = std::thread::current().id();
    let elsewhere = |round: &str| {
        let done = AtomicUsize::new(0);
        threads::parallel_for(1000, |_| {
            done.fetch_add(usize::from(std::thread::current().id() == own), Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 1000, "{round}");
    };
    threads::serial(|| {
        threads::serial(|| elsewhere("within"));
        // The inner end does not end the outer.
        elsewhere("after the inner");
    });
    // Nor does a panic leave the thread alone: two tasks meet, unless other tests hold the pool each time.
    let panicked = std::panic::catch_unwind(|| threads::serial(|| panic!("within")));
    assert!(panicked.is_err());
    let meet = || {
        let (here, met) = (AtomicUsize::new(0), AtomicUsize::new(0));
        threads::parallel_for(2, |_| {
            here.fetch_add(1, Ordering::SeqCst);
            let since = Instant::now();
            while here.load(Ordering::SeqCst) < 2 && since.elapsed() < Duration::from_millis(20) {
                std::thread::yield_now();
            }
            met.fetch_add(usize::from(here.load(Ordering::SeqCst) == 2), Ordering::SeqCst);
        });
        met.into_inner() == 2
    };
    assert!(threads::count() == 1 || (0..500).any(|_| meet()));
}

#[test]
fn what_a_task_writes_is_seen_afterwards() {
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
fn a_task_that_panics_ends_the_caller_and_not_the_pool() {
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
