//! The processes that a launcher (`mpirun`, `srun`, `torchrun`) started together with this one.

use std::time::Duration;

use parlor::train::distributed::{Collective, Launch};

use crate::cli::Verb;
use crate::failure::Failure;

/// What the launcher says; none when nobody started several.
pub(crate) fn launch() -> Option<Launch> {
    Launch::from_variables(|name| std::env::var(name).ok())
}

/// Threads of the pool: those asked for, or of ranks on one machine each its share of the cores; 0 leaves it to the pool.
pub(crate) fn threads(asked: Option<usize>, verb: &Verb) -> usize {
    let shared = launch().map_or(1, |launch| launch.local_world_size);
    match asked {
        Some(count) => count,
        None if shared > 1
            && matches!(verb, Verb::Train(_))
            && std::env::var_os("RAYON_NUM_THREADS").is_none() =>
        {
            std::thread::available_parallelism().map_or(1, |cores| (cores.get() / shared).max(1))
        }
        None => 0,
    }
}

/// Ends all ranks, since this one goes no further. Alone, it is the failure that it was.
pub(crate) fn give_up(failure: Failure, collective: &dyn Collective) -> Failure {
    if collective.world_size() == 1 || failure.is_orderly() {
        return failure;
    }
    if collective.rank() > 0 {
        // What all ranks meet rank 0 tells, and ends this one meanwhile.
        std::thread::sleep(Duration::from_secs(1));
        crate::output::note(&format!("rank {} of {}:", collective.rank(), collective.world_size()));
    }
    let code = failure.show();
    collective.abort(i32::from(code));
    Failure::silent_input()
}
