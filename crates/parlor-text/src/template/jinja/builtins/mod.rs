//! Jinja2's filters, tests and globals, and the operators that
//! `rewrite` turns into calls.

pub(super) mod clock;
pub(super) mod filters;
pub(super) mod functions;
mod json;
pub(super) mod operators;
mod sequences;
pub(super) mod tests;
