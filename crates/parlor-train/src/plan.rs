//! What a run will need before it starts: memory, changes that make it fit, and time.

mod calibration;
mod fixes;
mod memory;

pub(crate) use calibration::seconds_estimate;
pub(crate) use fixes::FixSearch;
pub(crate) use memory::{MemoryModel, PassSizes};
