//! How thorough a check is.

/// How much of a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What finds most mistakes in little time.
    Quick,
    /// All of it.
    Full,
}
