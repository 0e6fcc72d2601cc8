//! Parlor as a library: the composed [`Config`], and all of Parlor's crates under one name.
//!
//! ```no_run
//! use parlor::ModelManager;
//! use parlor::configuration::Sources;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sources = Sources { files: vec!["config.yaml".into()], ..Sources::default() };
//! let manager = parlor::load_config(sources)?;
//! let model = ModelManager::new(manager.get().model.clone()).load_model()?;
//! println!("{} parameters", model.decoder.parameter_count());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod config;
mod documents;

pub use config::{
    ALIASES, BackendType, Config, ENVIRONMENT, LogLevel, SECRETS, SamplingDefaults, ServingConfig,
    load_config, rules,
};
pub use documents::generated_documents;
pub use parlor_config as configuration;
pub use parlor_config::ConfigManager;
pub use parlor_engine as engine;
pub use parlor_files as files;
pub use parlor_kernels as kernels;
pub use parlor_model as model;
pub use parlor_model::ModelManager;
pub use parlor_text as text;
pub use parlor_track as track;
pub use parlor_train as train;
