//! Tokenized examples: sequences in memory or in a mapped file.

mod file;
mod sequence;
mod writer;

pub use file::TokenFile;
pub(crate) use file::fingerprint;
pub use sequence::Sequence;
pub use writer::TokenFileWriter;
