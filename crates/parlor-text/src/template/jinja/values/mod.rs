//! Python's values and what the language does with them: arguments, iteration, comparison, formatting, `str`
//! and `repr`.

pub(super) mod arguments;
pub(super) mod characters;
pub(super) mod compare;
pub(super) mod error;
pub(super) mod format;
pub(super) mod iterate;
pub(super) mod numbers;
pub(super) mod spelling;
