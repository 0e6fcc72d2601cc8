//! The rules of a configuration that its types cannot express: aliases, environment names, secrets, and
//! validators.

use serde_json::Value;

use crate::problem::Problem;

/// Another spelling of a value. Kept as the user wrote it, and used as the canonical one.
#[derive(Clone, Copy, Debug)]
pub struct Alias {
    /// The key of the value.
    pub key: &'static str,
    /// The other spelling.
    pub alias: &'static str,
    /// The canonical spelling.
    pub canonical: &'static str,
}

/// Which key an environment variable sets.
#[derive(Clone, Copy, Debug)]
pub enum EnvTarget {
    /// This key.
    Key(&'static str),
    /// A key that depends on the values of all layers.
    Resolved(fn(&Value) -> String),
}

/// An environment variable with a name of its own, in addition to the systematic `PARLOR__SECTION__KEY`.
#[derive(Clone, Copy, Debug)]
pub struct EnvName {
    /// The variable.
    pub name: &'static str,
    /// What it sets.
    pub target: EnvTarget,
}

/// The rules of one configuration.
#[derive(Debug)]
pub struct Rules<C> {
    /// Prefix of systematic environment names, `PARLOR` for `PARLOR__TRAINING__SEED`.
    pub prefix: &'static str,
    /// Other spellings of values.
    pub aliases: &'static [Alias],
    /// Plain environment names.
    pub env_names: &'static [EnvName],
    /// Keys whose values are never shown.
    pub secrets: &'static [&'static str],
    /// Checks across keys. The place of each problem is found by its key.
    pub validators: Vec<fn(&C) -> Vec<Problem>>,
}

impl<C> Default for Rules<C> {
    fn default() -> Self {
        Self { prefix: "PARLOR", aliases: &[], env_names: &[], secrets: &[], validators: Vec::new() }
    }
}

impl<C> Clone for Rules<C> {
    fn clone(&self) -> Self {
        Self { validators: self.validators.clone(), ..*self }
    }
}

impl<C> Rules<C> {
    /// Whether the value of `path`, or of a key above it, is secret.
    pub fn is_secret(&self, path: &str) -> bool {
        let within = |key: &str| path.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        self.secrets.iter().any(|key| *key == path || within(key))
    }
}

/// Where a configuration keeps the three values that have update methods of their own.
pub trait SeedKeys {
    /// Key of the model's name.
    const MODEL_NAME: &str;
    /// Key of the training type.
    const TRAINING_TYPE: &str;
    /// Key of the batch size.
    const BATCH_SIZE: &str;
}
