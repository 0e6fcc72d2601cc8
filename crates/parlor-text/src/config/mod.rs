//! The configuration of data: the section `data:` and its data sets.

mod data;
mod dataset;

pub use data::{DataConfig, DataType, OnBadRow, OnLongRow, data_problems};
pub use dataset::{DatasetConfig, StoppingStrategy};
