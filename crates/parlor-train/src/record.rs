//! The record of a run: metrics, samples, status.

mod recorder;
mod run_record;
mod samples;

pub(crate) use recorder::NoRecord;
pub use recorder::Recorder;
pub(crate) use run_record::RunRecord;
pub(crate) use samples::drop_later_samples;
pub use samples::{SAMPLES_FILE, SampleGenerator, SampleWriter};
