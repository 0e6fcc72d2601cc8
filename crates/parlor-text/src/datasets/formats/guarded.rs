//! Runs third-party decoders of binary formats, and turns a panic into an error of the file.
//!
//! Such decoders mostly return errors on damaged input, but none promises never to panic. The panic message
//! is suppressed on the decoding thread; other threads keep the program's panic hook.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// The result of `work`, or an error if it panics. `work` must leave no shared state half-changed.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !INSIDE.with(Cell::get) {
                before(panic);
            }
        }));
    });
    let outer = INSIDE.with(|inside| inside.replace(true));
    let result = catch_unwind(AssertUnwindSafe(work));
    INSIDE.with(|inside| inside.set(outer));
    result.unwrap_or_else(|cause| {
        let message = cause.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(format!("the file is damaged: its decoder failed ({message})"))
    })
}
