//! Memory: tensors and views of them, mapped files, huge pages, the scratch buffers of threads.

pub mod heap;
pub(crate) mod huge_pages;
mod mapped_file;
pub(crate) mod pointer;
pub(crate) mod scratch;
mod tensor;

pub use mapped_file::MappedFile;
pub use tensor::{DType, Tensor, TensorError, Values, ValuesMut, View};
