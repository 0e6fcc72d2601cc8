//! `samples.jsonl`: what the model answers to `training.sample_prompts` after each evaluation, a row a sample:
//! `{"step", "prompt", "text"}`.
//!
//! Generating text is another library's work; the program hands in a [`SampleGenerator`] that does it.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use parlor_model::Decoder;
use serde::{Deserialize, Serialize};

use crate::parlor_state::ParlorState;
use crate::storage::{FillError, StorageError, write_file};

/// Name of the file in a run's directory.
pub const SAMPLES_FILE: &str = "samples.jsonl";

/// Answers a prompt with a decoder.
pub struct SampleGenerator(Box<Answer>);

type Answer = dyn FnMut(&Decoder, &str) -> Result<String, FillError> + Send;

impl SampleGenerator {
    /// One that calls `answer` with the decoder in training and a prompt, for the text that follows.
    pub fn new(answer: impl FnMut(&Decoder, &str) -> Result<String, FillError> + Send + 'static) -> Self {
        Self(Box::new(answer))
    }

    pub(crate) fn answer(&mut self, decoder: &Decoder, prompt: &str) -> Result<String, FillError> {
        (self.0)(decoder, prompt)
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

/// The file. It is made with the first row.
pub(crate) struct SampleFile {
    path: PathBuf,
}

impl SampleFile {
    /// That of a run, or of one that goes on from `state`: rows of steps that are done again are dropped.
    pub(crate) fn open(directory: &Path, state: Option<&ParlorState>) -> Result<Self, StorageError> {
        let path = directory.join(SAMPLES_FILE);
        if let (Some(state), Ok(text)) = (state, fs::read_to_string(&path)) {
            let first_again = state.step + u64::from(!state.evaluation_pending);
            let kept = |line: &&str| {
                serde_json::from_str::<SampleRow>(line).is_ok_and(|sample| sample.step < first_again)
            };
            let kept: String = text.lines().filter(kept).map(|line| format!("{line}\n")).collect();
            if kept != text {
                write_file(&path, kept.as_bytes())?;
            }
        }
        Ok(Self { path })
    }

    pub(crate) fn append(&mut self, step: u64, prompt: &str, text: &str) -> Result<(), FillError> {
        let sample = SampleRow { step, prompt: prompt.to_owned(), text: text.to_owned() };
        let mut line = serde_json::to_string(&sample)?;
        line.push('\n');
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        file.write_all(line.as_bytes())?;
        Ok(file.sync_all()?)
    }
}
