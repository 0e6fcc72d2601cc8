//! MLflow's file store, written as MLflow itself writes it (read back by `mlflow` 3.17).
//!
//! Left out: servers, databases, the model registry, datasets, nested runs.

mod key;
mod meta;
mod store;

pub use store::{MlflowFileStore, MlflowRun};
