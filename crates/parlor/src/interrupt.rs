//! Ctrl-C, SIGTERM and a closed terminal: the first signal shuts down in order, the second exits at once.
//! SIGUSR1 requests a checkpoint.
//!
//! A signal that is ignored when the program starts stays ignored: `nohup` relies on that for a closed
//! terminal, and a shell script's `&` for a Ctrl-C that is meant for the script.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use crate::failure::INTERRUPTED;

/// Set by the first Ctrl-C.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// Set by SIGUSR1.
static SAVE: AtomicBool = AtomicBool::new(false);

/// The effect of the first Ctrl-C.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OnInterrupt {
    /// Exits: there is nothing to save.
    Exit,
    /// Sets [`STOP`] and prints this, if it is not empty.
    Finish(&'static str),
}

static ON_INTERRUPT: Mutex<OnInterrupt> = Mutex::new(OnInterrupt::Exit);

/// Sets the effect of the first Ctrl-C from now on; a second one exits at once.
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

/// From now on, SIGUSR1 requests a checkpoint instead of ending the program.
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

/// Does nothing: this platform has no such signal.
#[cfg(not(unix))]
pub(crate) fn save_on_request() {}

/// Whether a checkpoint was requested; resets the request.
pub(crate) fn take_save() -> bool {
    SAVE.swap(false, Ordering::SeqCst)
}

/// The signals that were ignored when the program started: bit `n - 1` for signal `n`. Known on Linux only.
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

/// Whether Ctrl-C was pressed; resets it.
pub(crate) fn take() -> bool {
    STOP.swap(false, Ordering::SeqCst)
}
