//! The decoder against the reference's numbers, and the equalities it must keep.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod equalities;
mod fixture;
mod parity;
