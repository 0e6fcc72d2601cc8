//! The life cycle of a model: the `model:` section of the configuration, and the manager that loads what it
//! names.

mod model_config;
mod model_info;
mod model_manager;

pub use model_config::{Bnb4bitQuantType, ModelConfig, OutOfMemoryPolicy, reserved_template_variable};
pub use model_info::{AdapterSummary, MemoryEstimate, ModelInfo, ParametersByPart};
pub use model_manager::{GpuInfo, ModelManager, OperationMetrics, PerformanceMetrics};
