//! MLflow's file store, written as MLflow itself would (INTEROP §1.2; read back by `mlflow` 3.17).
//!
//! Left out: servers, databases, the model registry, datasets, nested runs.

mod key;
mod meta;
mod store;

pub use store::{MlflowFileStore, MlflowRun};
