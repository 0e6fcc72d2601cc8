//! Models on disk: loading them from a directory or a GGUF file, and saving them.

mod finite;
mod load;
mod locate;
mod read_decoder;
mod save;
mod tensor_names;
mod text_artifacts;

pub use load::{LoadedModel, load_directory, load_gguf, load_path};
pub use locate::locate_model;
pub use read_decoder::read_decoder;
pub use save::{MAX_SHARD_BYTES, SaveModel, save_directory, save_weights};
pub(crate) use text_artifacts::read_text_artifacts;
pub use text_artifacts::{TextArtifacts, read_gguf_text};
