//! Ctrl-C, SIGTERM and a closed terminal: the first asks for an orderly end, the second ends at once. SIGUSR1 asks a run
//! for a checkpoint.
//!
//! A signal that was already ignored when the program started stays ignored: `nohup` promises that a closed terminal
//! ends nothing, and a shell script's `&` that a Ctrl-C meant for the script does not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use crate::failure::INTERRUPTED;

/// Set by the first Ctrl-C.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// Set by SIGUSR1.
static SAVE: AtomicBool = AtomicBool::new(false);

/// What the first Ctrl-C does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OnInterrupt {
    /// Nothing is going on that an orderly end would save.
    Exit,
    /// Sets [`STOP`] and says this, if it is anything.
    Finish(&'static str),
}

static ON_INTERRUPT: Mutex<OnInterrupt> = Mutex::new(OnInterrupt::Exit);

/// From now on, the first Ctrl-C does this; a second exits at once.
pub(crate) fn watch(on_interrupt: OnInterrupt) {
    static LISTENING: Once = Once::new();
    *ON_INTERRUPT.lock().unwrap_or_else(PoisonError::into_inner) = on_interrupt;
    LISTENING.call_once(|| {
        if let Err(error) = listen() {
            tracing::warn!("Ctrl-C ends the program without saving: {error}");
        }
    });
}

fn interrupted() {
    let on_interrupt = *ON_INTERRUPT.lock().unwrap_or_else(PoisonError::into_inner);
    match on_interrupt {
        OnInterrupt::Finish(message) if !STOP.swap(true, Ordering::SeqCst) => {
            if !message.is_empty() {
                crate::output::note(message);
            }
        }
        _ => exit_at_once(),
    }
}

/// Calls [`interrupted`] for each signal, on a thread of its own.
#[cfg(unix)]
fn listen() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let ignored = ignored_signals();
    let listened = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = signal_hook::iterator::Signals::new(listened)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            interrupted();
        }
    })?;
    Ok(())
}

#[cfg(not(unix))]
fn listen() -> std::io::Result<()> {
    ctrlc::set_handler(interrupted).map_err(std::io::Error::other)
}

/// From now on, SIGUSR1 asks for a checkpoint instead of ending the program.
#[cfg(unix)]
pub(crate) fn save_on_request() {
    use signal_hook::consts::SIGUSR1;

    let listen = || -> std::io::Result<()> {
        let mut signals = signal_hook::iterator::Signals::new([SIGUSR1])?;
        std::thread::Builder::new().name("save requests".into()).spawn(move || {
            for _ in signals.forever() {
                SAVE.store(true, Ordering::SeqCst);
                crate::output::note("Saving a checkpoint after this step.");
            }
        })?;
        Ok(())
    };
    if ignored_signals() & (1 << (SIGUSR1 - 1)) != 0 {
        return;
    }
    if let Err(error) = listen() {
        tracing::warn!("SIGUSR1 ends the program instead of saving: {error}");
    }
}

/// There is no such signal here.
#[cfg(not(unix))]
pub(crate) fn save_on_request() {}

/// Whether a checkpoint was asked for; forgets it.
pub(crate) fn take_save() -> bool {
    SAVE.swap(false, Ordering::SeqCst)
}

/// The signals that this program was started with as ignored: bit `n - 1` for signal `n`. Only Linux tells.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[expect(clippy::exit, reason = "nothing is lost: checkpoints are whole at every moment")]
fn exit_at_once() {
    std::process::exit(i32::from(INTERRUPTED));
}

/// Whether Ctrl-C was pressed; forgets it.
pub(crate) fn take() -> bool {
    STOP.swap(false, Ordering::SeqCst)
}
