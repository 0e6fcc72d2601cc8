//! The metadata keys of a GGUF file that describe a model: typed reading, with errors that name the key and
//! the file.

use crate::arch::hf_config::LARGEST_CONTEXT;
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::Metadata;

/// The key that names the family.
pub(crate) const ARCHITECTURE: &str = "general.architecture";

/// The metadata keys of one family, which begin with its name.
pub(crate) struct GgufKeys<'a> {
    pub(crate) metadata: &'a Metadata,
    pub(crate) family: &'a str,
}

impl GgufKeys<'_> {
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.family)
    }

    pub(crate) fn optional(&self, key: &str, most: u64) -> Result<Option<usize>, ModelLoadError> {
        let name = self.name(key);
        match self.metadata.integer(&name)? {
            None => Ok(None),
            Some(value) if (1..=most).contains(&value) => Ok(Some(value as usize)),
            Some(_) => Err(self.metadata.wrong(&name, &format!("a whole number from 1 to {most}"))),
        }
    }

    pub(crate) fn needed(&self, key: &str, most: u64) -> Result<usize, ModelLoadError> {
        self.optional(key, most)?.ok_or_else(|| self.metadata.missing(&self.name(key)))
    }

    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>, ModelLoadError> {
        let name = self.name(key);
        match self.metadata.number(&name)? {
            Some(value) if value <= 0.0 => Err(self.metadata.wrong(&name, "a number above 0")),
            value => Ok(value),
        }
    }

    pub(crate) fn needed_positive(&self, key: &str) -> Result<f64, ModelLoadError> {
        self.positive(key)?.ok_or_else(|| self.metadata.missing(&self.name(key)))
    }

    pub(crate) fn unsupported(&self, key: &str, supported: &str) -> ModelLoadError {
        let name = self.name(key);
        let what = format!("this is not supported for {} models", self.family);
        let help = format!("Parlor supports {supported}; use a model with that");
        self.metadata.problem(LoadErrorKind::Incompatible, &name, what, help)
    }

    /// An error when the key is there with another value than the one that is supported.
    pub(crate) fn only(&self, key: &str, value: u64, supported: &str) -> Result<(), ModelLoadError> {
        match self.metadata.integer(&self.name(key))? {
            Some(found) if found != value => Err(self.unsupported(key, supported)),
            _ => Ok(()),
        }
    }

    /// How far back attention looks; `None`, like 0 and like no key, is everywhere.
    pub(crate) fn window(&self) -> Result<Option<usize>, ModelLoadError> {
        const KEY: &str = "attention.sliding_window";
        match self.metadata.integer(&self.name(KEY))? {
            Some(0) => Ok(None),
            _ => self.optional(KEY, LARGEST_CONTEXT),
        }
    }
}
