//! Parameter updates, each one pass over parameter, gradient and state.
//!
//! Hyperparameters are f64 until they multiply an element, as in Python: `1 - 0.999` in f32 is wrong in the fifth
//! digit. State is f32, or 8-bit blocks ([`adamw_8bit()`]). Parameters and gradients are f32 or bf16 ([`Parameter`]).

mod adafactor;
mod adamw;
mod adamw_8bit;
mod lion;
mod muon;
mod parameter;
mod sgd;
mod stochastic_rounding;

pub use adafactor::{Adafactor, adafactor_matrix, adafactor_vector};
pub use adamw::{AdamW, adamw};
pub use adamw_8bit::{Moments8bit, adamw_8bit};
pub use lion::{Lion, lion};
pub use muon::{AdjustRate, Momentum, Muon, MuonScratch, muon};
pub use parameter::Parameter;
pub use sgd::{Sgd, sgd};
pub use stochastic_rounding::round_stochastically;
