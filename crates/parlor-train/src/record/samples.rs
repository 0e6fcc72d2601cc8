//! `samples.jsonl`: what the model completes `training.sample_prompts` with after each evaluation, one
//! `{"step", "prompt", "text"}` a line.
//!
//! Generation belongs to another library; the caller hands in a [`SampleGenerator`].

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use parlor_model::Decoder;
use serde::{Deserialize, Serialize};

use crate::checkpoint::ParlorState;
use parlor_files::{FillError, WriteError, atomic_file};

/// Name of the file in a run's directory.
pub const SAMPLES_FILE: &str = "samples.jsonl";

/// Completes a prompt with a decoder.
pub struct SampleGenerator(Box<Generate>);

type Generate = dyn FnMut(&Decoder, &str) -> Result<String, FillError> + Send;

impl SampleGenerator {
    /// Calls `generate` with the decoder in training and a prompt; it returns the completion.
    pub fn new(generate: impl FnMut(&Decoder, &str) -> Result<String, FillError> + Send + 'static) -> Self {
        Self(Box::new(generate))
    }
}

impl fmt::Debug for SampleGenerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SampleGenerator")
    }
}

#[derive(Serialize, Deserialize)]
struct SampleRow {
    step: u64,
    prompt: String,
    text: String,
}

/// Completes prompts and appends the completions to the file, which is created with the first one.
pub struct SampleWriter {
    path: PathBuf,
    generator: SampleGenerator,
}

impl SampleWriter {
    /// A writer into `directory`.
    pub fn new(directory: &Path, generator: SampleGenerator) -> Self {
        Self { path: directory.join(SAMPLES_FILE), generator }
    }

    /// Completes `prompt` with `decoder` as it is after `step` steps, and appends the completion.
    ///
    /// # Errors
    /// What the generator or the system says.
    pub(crate) fn sample(&mut self, decoder: &Decoder, step: u64, prompt: &str) -> Result<String, FillError> {
        let text = (self.generator.0)(decoder, prompt)?;
        let row = SampleRow { step, prompt: prompt.to_owned(), text };
        let mut line = serde_json::to_string(&row)?;
        line.push('\n');
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        Ok(row.text)
    }
}

/// Drops the samples of steps that a run resumed from `state` takes again.
///
/// # Errors
/// When the file cannot be rewritten.
pub(crate) fn drop_later_samples(directory: &Path, state: &ParlorState) -> Result<(), WriteError> {
    let path = directory.join(SAMPLES_FILE);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let first_again = state.step + u64::from(!state.evaluation_pending);
    let kept =
        |line: &&str| serde_json::from_str::<SampleRow>(line).is_ok_and(|sample| sample.step < first_again);
    let kept: String = text.lines().filter(kept).map(|line| format!("{line}\n")).collect();
    if kept == text { Ok(()) } else { atomic_file::write(&path, kept.as_bytes()) }
}
