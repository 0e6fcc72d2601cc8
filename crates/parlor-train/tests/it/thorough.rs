//! How many repetitions of slow tests run: a few, or all of them with `PARLOR_TESTS=all`, which
//! `cargo xtask test --all` sets.

/// Whether to run every repetition.
pub(crate) fn thorough() -> bool {
    std::env::var_os("PARLOR_TESTS").is_some_and(|tests| tests == "all")
}
