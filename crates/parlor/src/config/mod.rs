//! The program's configuration, and the rules by which files, environment and flags become it.

mod environment;
mod root;
mod rules;
mod serving;

pub use environment::ENVIRONMENT;
pub use root::{Config, LogLevel};
pub use rules::{ALIASES, SECRETS, load_config, rules};
pub use serving::{BackendType, SamplingDefaults, ServingConfig};
