//! Merges files, environment and flags into one validated value, and knows where each part came from.
//!
//! This crate knows no section of Parlor: it works on any `C` that can be serialized, deserialized and described
//! by a JSON Schema. See [`ConfigManager`].
//!
//! ```text
//! defaults < files (with `extends`) < .env < environment < --set < updates at run time
//! ```
#![forbid(unsafe_code)]

mod configuration;
mod document;
mod dotenv;
mod emit;
mod environment;
mod explain;
mod generate;
mod interpolate;
mod layers;
mod limits;
mod manager;
mod node;
mod problem;
mod rules;
mod schema;
mod suggest;
mod validate;
mod watch;
mod yaml;

pub use configuration::Configuration;
pub use emit::SaveMode;
pub use explain::Explanation;
pub use generate::{commented_yaml, json_schema, markdown_reference};
pub use layers::Sources;
pub use manager::{ConfigManager, ConfigMetrics, SaveError};
pub use problem::{ConfigError, Layer, Place, Problem};
pub use rules::{Alias, EnvName, EnvTarget, Rules, SeedKeys};
pub use watch::WatchGuard;
