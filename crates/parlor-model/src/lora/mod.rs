//! Low-rank adapters in PEFT's format and arithmetic: choosing modules, creating, loading, saving and merging
//! (LoRA, rsLoRA, DoRA).
//!
//! The passes over an adapter that is attached are in `decoder/`. Leaves out: adapters of embeddings, of the
//! output head, and of convolutions.

mod files;
mod merge;
mod modules;
mod plan;
mod with_adapters;

pub use files::{AdapterInfo, load_adapter, read_adapter_config, save_adapter};
pub use merge::merge;
pub use plan::AdapterPlan;
pub use with_adapters::{load_with_adapters, locate_with_adapters};
