//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first Ctrl-C.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// What shells report for a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// From now on, the first Ctrl-C sets [`STOP`] and says `message`, if there is one; a second exits at once.
pub(crate) fn watch(message: &'static str) {
    let handler = move || {
        if STOP.swap(true, Ordering::SeqCst) {
            exit_at_once();
        }
        if !message.is_empty() {
            crate::output::note(message);
        }
    };
    if let Err(error) = ctrlc::try_set_handler(handler) {
        tracing::debug!("Ctrl-C keeps its handler: {error}");
    }
}

#[expect(clippy::exit, reason = "the user asked twice; checkpoints are whole at every moment")]
fn exit_at_once() {
    std::process::exit(i32::from(INTERRUPTED));
}

/// Whether Ctrl-C was pressed; forgets it.
pub(crate) fn take() -> bool {
    STOP.swap(false, Ordering::SeqCst)
}
