//! Memory: tensors and views of them, mapped files, huge pages, scratch buffers of threads.

pub mod allocator;
mod append;
mod dtype;
pub(crate) mod huge_pages;
mod mapped_file;
pub(crate) mod prepacked;
pub(crate) mod scratch;
mod tensor;
mod values;
mod view;

pub use dtype::{Arithmetic, DType};
pub use mapped_file::MappedFile;
pub use prepacked::{PrepackedView, PrepackedWeight};
pub use tensor::{Tensor, TensorError};
pub use values::{Values, ValuesMut};
pub use view::View;
