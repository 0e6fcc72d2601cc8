//! Other people's decoders of binary formats, kept from ending the program: a panic in one is an error of its file.
//!
//! Such decoders mostly return errors on damaged input, but none of them promises never to panic. The panic message
//! that Rust would print is left out on the thread that is inside; other threads keep the program's own hook.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// What `work` returns, or that it failed. `work` must leave nothing half-done that is used afterwards.
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
        let said = cause.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(format!("the file is damaged: its decoder failed ({said})"))
    })
}
