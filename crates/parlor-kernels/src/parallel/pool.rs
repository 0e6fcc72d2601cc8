//! The thread pool: one for the whole program, whose workers spin for a moment before they sleep.
//!
//! A model step is a few hundred matrix products of 10 to 500 microseconds, one after the other; waking a sleeping
//! thread takes longer than many of them. So a worker without work polls for the next job for [`SPIN`] before it
//! sleeps, and the thread that submits a job takes part in it. Threads take tasks one by one from a counter instead of
//! splitting them in advance: when another program takes a core, the remaining threads take over its share.
//!
//! A job that is submitted while another is running, from within a task or from another thread, runs on the submitting
//! thread: there is no queue, so nothing can deadlock. Written by hand because rayon's workers sleep after some ten
//! microseconds, and its splitting costs more than a small product.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long a worker polls for a job before it sleeps.
const SPIN: Duration = Duration::from_micros(150);
/// Polls between two readings of the clock.
const POLLS_PER_CLOCK_READING: usize = 64;

/// Aligned to a pair of cache lines (processors prefetch them in pairs), so that values that different threads write
/// share none.
#[repr(align(128))]
struct CachePadded<T>(T);

/// A function, and the number of tasks to call it for. The function outlives the job because [`Pool::run`] waits.
#[derive(Clone, Copy)]
struct ParallelJob {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

/// A worker thread, and whether it sleeps.
struct Worker {
    thread: Thread,
    asleep: CachePadded<AtomicBool>,
}

/// The state that the submitting thread and the workers share.
struct Pool {
    /// Number of the open job, 0 when there is none.
    open: CachePadded<AtomicUsize>,
    /// The next task of the open job.
    next: CachePadded<AtomicUsize>,
    /// Number of workers that may hold a copy of `job`.
    active: CachePadded<AtomicUsize>,
    /// The payload of a panic in a worker's task.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Written while no job is open and no worker is active.
    job: UnsafeCell<Option<ParallelJob>>,
    /// Locked by the submitting thread while its job runs; the number of the last job.
    caller: Mutex<usize>,
    workers: OnceLock<Vec<Worker>>,
}

// SAFETY: only the holder of `caller` writes `job`, while no job is open and no worker is active. Workers read it between
// incrementing and decrementing `active`, after they have seen that the job they know is still open.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool {
    open: CachePadded(AtomicUsize::new(0)),
    next: CachePadded(AtomicUsize::new(0)),
    active: CachePadded(AtomicUsize::new(0)),
    panic: Mutex::new(None),
    job: UnsafeCell::new(None),
    caller: Mutex::new(0),
    workers: OnceLock::new(),
};

/// Starts `threads - 1` workers; later calls change nothing. Returns the number of threads in the pool, which is smaller
/// where the system refuses to start one.
pub(super) fn start(threads: usize) -> usize {
    let workers = POOL.workers.get_or_init(|| {
        let workers = (1..threads).map_while(|index| {
            let thread = std::thread::Builder::new().name(format!("kernel-{index}"));
            let handle = thread.spawn(move || worker_loop(index - 1)).ok()?;
            Some(Worker { thread: handle.thread().clone(), asleep: CachePadded(AtomicBool::new(false)) })
        });
        workers.collect()
    });
    workers.len() + 1
}

thread_local! {
    /// Whether this thread runs its jobs alone.
    static SERIAL: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; the jobs that it submits run on the calling thread.
pub(super) fn serial<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            SERIAL.set(self.0);
        }
    }
    let _restore = Restore(SERIAL.replace(true));
    work()
}

/// Calls `task` with each index below `tasks`, on all threads.
pub(super) fn run(tasks: usize, task: &(dyn Fn(usize) + Sync)) {
    if SERIAL.get() {
        return (0..tasks).for_each(task);
    }
    let workers = POOL.workers.get().map_or(&[][..], Vec::as_slice);
    let last = match POOL.caller.try_lock() {
        Ok(last) if tasks > 1 && !workers.is_empty() => Some(last),
        // A task of the previous caller panicked; its job has ended all the same.
        Err(TryLockError::Poisoned(last)) if tasks > 1 => Some(last.into_inner()),
        _ => None,
    };
    match last {
        Some(mut last) => {
            *last = last.wrapping_add(1).max(1);
            POOL.run(ParallelJob { task: erase_lifetime(task), tasks }, *last, workers);
        }
        None => (0..tasks).for_each(task),
    }
}

/// The address of `task` without its lifetime.
fn erase_lifetime<'a>(task: &'a (dyn Fn(usize) + Sync + 'a)) -> *const (dyn Fn(usize) + Sync) {
    let task: *const (dyn Fn(usize) + Sync + 'a) = task;
    // SAFETY: the types differ in a lifetime only, and `Pool::run` ends every use of the address before it returns.
    unsafe { std::mem::transmute::<_, *const (dyn Fn(usize) + Sync + 'static)>(task) }
}

/// On drop, closes the job and waits until no worker is active, also when the caller's own task panics.
struct CloseJob;

impl Drop for CloseJob {
    fn drop(&mut self) {
        POOL.open.0.store(0, Ordering::SeqCst);
        let mut polls = 0;
        while POOL.active.0.load(Ordering::SeqCst) != 0 {
            std::hint::spin_loop();
            polls += 1;
            // The worker may have been preempted and need this core.
            if polls > 1 << 14 {
                std::thread::yield_now();
            }
        }
    }
}

impl Pool {
    fn run(&self, job: ParallelJob, number: usize, workers: &[Worker]) {
        // SAFETY: this thread holds `caller`, so no job is open; `CloseJob` waited until no worker was active, and a worker
        // that becomes active now finds `open` 0 and does not read `job`.
        unsafe { *self.job.get() = Some(job) };
        self.next.0.store(0, Ordering::Relaxed);
        self.open.0.store(number, Ordering::SeqCst);
        for worker in workers {
            if worker.asleep.0.load(Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
        let close = CloseJob;
        self.run_tasks(job);
        drop(close);
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Runs tasks of `job` until there are none left.
    fn run_tasks(&self, job: ParallelJob) {
        // SAFETY: the function outlives the job, and `CloseJob` waits for all who run its tasks.
        let task = unsafe { &*job.task };
        loop {
            let index = self.next.0.fetch_add(1, Ordering::Relaxed);
            if index >= job.tasks {
                return;
            }
            task(index);
        }
    }

    /// Waits for an open job other than `seen` and returns its number.
    fn wait_for_job(&self, seen: usize, worker: usize) -> usize {
        let since = Instant::now();
        loop {
            for _ in 0..POLLS_PER_CLOCK_READING {
                let number = self.open.0.load(Ordering::Acquire);
                if number != 0 && number != seen {
                    return number;
                }
                std::hint::spin_loop();
            }
            if since.elapsed() > SPIN
                && let Some(worker) = self.workers.get().and_then(|workers| workers.get(worker))
            {
                worker.asleep.0.store(true, Ordering::SeqCst);
                let number = self.open.0.load(Ordering::SeqCst);
                if number == 0 || number == seen {
                    std::thread::park();
                }
                worker.asleep.0.store(false, Ordering::SeqCst);
            }
        }
    }
}

/// Waits for jobs and runs their tasks, forever.
fn worker_loop(worker: usize) {
    let mut seen = 0;
    loop {
        seen = POOL.wait_for_job(seen, worker);
        POOL.active.0.fetch_add(1, Ordering::SeqCst);
        if POOL.open.0.load(Ordering::SeqCst) == seen {
            // SAFETY: the job is open, and `CloseJob` waits until this worker is no longer active.
            if let Some(job) = unsafe { *POOL.job.get() } {
                let done = catch_unwind(AssertUnwindSafe(|| POOL.run_tasks(job)));
                if let Err(panic) = done {
                    *POOL.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                }
            }
        }
        POOL.active.0.fetch_sub(1, Ordering::SeqCst);
    }
}
