//! The number of steps that fit into `--max-seconds`, measured by a short trial of the same training.

use std::time::{Duration, Instant};

use parlor::train::{Flow, Run, TrainEvent, TrainHooks, TrainRequest};

use crate::failure::Failure;
use crate::interrupt::{self, OnInterrupt, STOP};

/// Steps of the trial; the first ones, which warm up caches and buffers, are not timed.
const TRIAL: u64 = 6;
const WARM: usize = 2;

/// The number of steps that take `seconds` together with this trial, at most those of the whole training. It
/// is fixed before the run, so that the learning-rate schedule ends correctly.
pub(super) fn steps_within(mut request: TrainRequest, seconds: u64) -> Result<u64, Failure> {
    let start = Instant::now();
    let scratch = tempfile::tempdir()
        .map_err(|error| Failure::input(format!("cannot make a temporary directory: {error}")))?;
    let mut hyper = request.clone();
    hyper.training.output_dir = scratch.path().join("whole");
    let whole = Run::prepare(hyper)?.step_plan().total_steps;
    request.training.output_dir = scratch.path().join("trial");
    request.max_steps = Some(TRIAL);
    let mut ends = Vec::new();
    let mut watch = |event: TrainEvent| {
        if let TrainEvent::Step(_) = event {
            ends.push(Instant::now());
        }
        Flow::Continue
    };
    interrupt::watch(OnInterrupt::Finish(""));
    Run::prepare(request)?.train(TrainHooks::new(&mut watch, &STOP))?;
    if interrupt::take() {
        return Err(Failure::interrupted());
    }
    let counted = ends.get(WARM..).unwrap_or_default();
    let (Some(first), Some(last)) = (counted.first(), counted.last()) else { return Ok(whole) };
    let per_step = last.duration_since(*first).as_secs_f64() / (counted.len() - 1).max(1) as f64;
    let left = Duration::from_secs(seconds).saturating_sub(start.elapsed()).as_secs_f64();
    // A tenth is reserved for evaluation, saving, and steps with longer dialogues than the trial's.
    let fit = (0.9 * left / per_step.max(1e-6)).floor() as u64;
    Ok(fit.clamp(1, whole))
}
