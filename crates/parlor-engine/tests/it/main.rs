//! Generation, sampling and stop texts, against direct definitions and the reference.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod generate;
mod reference;
mod resolve;
mod sampling;
mod stop;
