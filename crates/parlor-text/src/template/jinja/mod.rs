//! Jinja2 as `transformers` runs it, on the `minijinja` engine.
//!
//! `minijinja` parses and runs templates, but does not know Python. This folder adds Python's values
//! (integers of any size, dictionaries with methods), how they are written (`str`, `repr`, `json.dumps`), the
//! methods of `str`, `list` and `dict`, and Jinja2's filters, tests and globals where the engine's differ.
//! Sources: Jinja2 3.1's `filters.py`, `tests.py` and `sandbox.py`, CPython 3.11's `unicodeobject.c`, and
//! `transformers/utils/chat_template_utils.py` (5.23).
//!
//! Leaves out `varargs` and `kwargs` of macros, which are the engine's.

mod builtins;
mod dict;
mod environment;
mod message_parts;
mod methods;
mod rewrite;
mod values;

pub(super) use builtins::clock::strftime_now;
pub(super) use builtins::functions::RAISED;
pub(super) use dict::{from_json, message};
pub(super) use environment::{environment, syntax};
pub(crate) use message_parts::MessagePart;
pub(super) use message_parts::split_parts;
pub(super) use rewrite::{MessageMarks, rewritten};
