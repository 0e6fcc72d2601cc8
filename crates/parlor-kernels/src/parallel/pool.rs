//! The threads that compute: one pool for the whole program, whose workers spin a moment before they sleep.
//!
//! A step of a model is a few hundred products of 10 to 500 microseconds, one after the other; a thread that sleeps
//! between them is woken up too late for each. So a worker that has nothing to do looks for the next job for [`SPIN`], and only
//! then sleeps. The thread that brings a job takes part in it. Tasks are taken one by one from a counter, never divided in
//! advance: when another program takes a core, the other threads do its share.
//!
//! A job that is brought while another is under way, from within a task or from another thread, is done by the thread that
//! brings it: there is no queue, so nothing can wait for itself. Written by hand because rayon's workers sleep
//! after some ten microseconds, and its splitting costs more than a small product.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long a worker looks for a job before it sleeps.
const SPIN: Duration = Duration::from_micros(150);
/// Looks between two glances at the clock.
const LOOKS: usize = 64;

/// Parts that several threads write lie in lines of their own (two: processors fetch them in pairs).
#[repr(align(128))]
struct Apart<T>(T);

/// A job: the function, and how many tasks it has. The address outlives the job because [`Pool::run`] waits.
#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

/// A worker that may sleep.
struct Worker {
    thread: Thread,
    asleep: Apart<AtomicBool>,
}

/// A caller and its workers.
struct Pool {
    /// Number of the job that is open, 0 when there is none.
    open: Apart<AtomicUsize>,
    /// The next task of it.
    next: Apart<AtomicUsize>,
    /// Workers that may hold a copy of `job`.
    inside: Apart<AtomicUsize>,
    /// What a task of a worker panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Written while no job is open and nobody is inside.
    job: UnsafeCell<Option<Job>>,
    /// Held by the thread whose job is under way: the number of its last job.
    caller: Mutex<usize>,
    workers: OnceLock<Vec<Worker>>,
}

// SAFETY: `job` is written by the holder of `caller` alone, while no job is open and nobody is inside; workers read it between
// entering (`inside`) and leaving, after they have seen that the job they know is still open.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool {
    open: Apart(AtomicUsize::new(0)),
    next: Apart(AtomicUsize::new(0)),
    inside: Apart(AtomicUsize::new(0)),
    panic: Mutex::new(None),
    job: UnsafeCell::new(None),
    caller: Mutex::new(0),
    workers: OnceLock::new(),
};

/// Starts `threads - 1` workers, once; later calls change nothing. A thread that cannot be started is done without. Returns
/// how many threads compute.
pub(crate) fn start(threads: usize) -> usize {
    let workers = POOL.workers.get_or_init(|| {
        let workers = (1..threads).map_while(|index| {
            let thread = std::thread::Builder::new().name(format!("kernel-{index}"));
            let handle = thread.spawn(move || work(index - 1)).ok()?;
            Some(Worker { thread: handle.thread().clone(), asleep: Apart(AtomicBool::new(false)) })
        });
        workers.collect()
    });
    workers.len() + 1
}

thread_local! {
    /// Whether this thread brings no jobs.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// What `work` makes; the jobs that it brings are done by the calling thread.
pub(crate) fn alone<R>(work: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _before = Before(ALONE.replace(true));
    work()
}

/// Calls `task` with each number below `tasks`, on all threads.
pub(crate) fn run(tasks: usize, task: &(dyn Fn(usize) + Sync)) {
    if ALONE.get() {
        return (0..tasks).for_each(task);
    }
    let workers = POOL.workers.get().map_or(&[][..], Vec::as_slice);
    let last = match POOL.caller.try_lock() {
        Ok(last) if tasks > 1 && !workers.is_empty() => Some(last),
        // A task of that caller panicked; its job has ended all the same.
        Err(TryLockError::Poisoned(last)) if tasks > 1 => Some(last.into_inner()),
        _ => None,
    };
    match last {
        Some(mut last) => {
            *last = last.wrapping_add(1).max(1);
            POOL.run(Job { task: erase(task), tasks }, *last, workers);
        }
        None => (0..tasks).for_each(task),
    }
}

/// The address of `task`, its lifetime forgotten.
fn erase<'a>(task: &'a (dyn Fn(usize) + Sync + 'a)) -> *const (dyn Fn(usize) + Sync) {
    let task: *const (dyn Fn(usize) + Sync + 'a) = task;
    // SAFETY: the types differ in a lifetime only, and `Pool::run` ends every use of the address before it returns.
    unsafe { std::mem::transmute::<_, *const (dyn Fn(usize) + Sync + 'static)>(task) }
}

/// Closes the job and waits until the workers have left it, also when the caller's own task panics.
struct Close;

impl Drop for Close {
    fn drop(&mut self) {
        POOL.open.0.store(0, Ordering::SeqCst);
        let mut looks = 0;
        while POOL.inside.0.load(Ordering::SeqCst) != 0 {
            std::hint::spin_loop();
            looks += 1;
            // A worker that another program has put off the core needs this one.
            if looks > 1 << 14 {
                std::thread::yield_now();
            }
        }
    }
}

impl Pool {
    fn run(&self, job: Job, number: usize, workers: &[Worker]) {
        // SAFETY: the caller holds `caller`, so no job is open; `Close` saw that nobody is inside, and who enters finds
        // `open` 0 and does not look.
        unsafe { *self.job.get() = Some(job) };
        self.next.0.store(0, Ordering::Relaxed);
        self.open.0.store(number, Ordering::SeqCst);
        for worker in workers {
            if worker.asleep.0.load(Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
        let close = Close;
        self.take_part(job);
        drop(close);
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Does tasks of `job` until there are none left.
    fn take_part(&self, job: Job) {
        // SAFETY: the function outlives the job, which is open while somebody takes part in it.
        let task = unsafe { &*job.task };
        loop {
            let index = self.next.0.fetch_add(1, Ordering::Relaxed);
            if index >= job.tasks {
                return;
            }
            task(index);
        }
    }

    /// The number of a job that is open and not `seen`.
    fn wait(&self, seen: usize, worker: usize) -> usize {
        let since = Instant::now();
        loop {
            for _ in 0..LOOKS {
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

/// A worker's life.
fn work(worker: usize) {
    let mut seen = 0;
    loop {
        seen = POOL.wait(seen, worker);
        POOL.inside.0.fetch_add(1, Ordering::SeqCst);
        if POOL.open.0.load(Ordering::SeqCst) == seen {
            // SAFETY: the job is open, and is not closed before this worker has left it.
            if let Some(job) = unsafe { *POOL.job.get() } {
                let done = catch_unwind(AssertUnwindSafe(|| POOL.take_part(job)));
                if let Err(panic) = done {
                    *POOL.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                }
            }
        }
        POOL.inside.0.fetch_sub(1, Ordering::SeqCst);
    }
}
