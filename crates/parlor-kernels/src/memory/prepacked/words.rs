//! Where the 32-bit words of a row lie, and which lines of a panel they go to.

use super::layout::{HALVES, PackedLayout};

/// Chunks of words in a row. A chunk is one block's quants or high bits, or one bf16 pair.
#[derive(Clone, Copy)]
pub(super) struct WordLayout {
    /// Bytes of a row.
    pub(super) row: usize,
    /// Bytes before the first word of a chunk.
    pub(super) first: usize,
    /// Bytes from one chunk to the next.
    pub(super) chunk: usize,
    /// Chunks of a row.
    pub(super) chunks: usize,
    /// Words of a chunk: a power of two.
    pub(super) words: usize,
    /// The layout that they go to, one chunk to a block.
    pub(super) layout: PackedLayout,
    /// Lines of a block before those of the words.
    pub(super) skipped: usize,
    /// Bits to flip in each word.
    pub(super) flip: u32,
}

/// Where the lines of chunks begin.
#[derive(Clone, Copy)]
pub(super) struct ChunkLines {
    /// Lines of a chunk.
    per_chunk: usize,
    /// Lines of a chunk before those of the words.
    skipped: usize,
    /// Lines of an interleaved block's header.
    header: usize,
    /// Log2 of the chunks per interleaved block.
    shift: u32,
}

impl WordLayout {
    pub(super) fn lines(self) -> ChunkLines {
        let (per_chunk, shift) = match self.layout {
            PackedLayout::Bf16Pairs => (HALVES, 0),
            layout => (layout.block_lines(), layout.blocks().ilog2()),
        };
        ChunkLines { per_chunk, skipped: self.skipped, header: self.layout.header_lines(), shift }
    }
}

impl ChunkLines {
    /// The first line of a chunk's words.
    #[inline(always)]
    pub(super) fn of(self, chunk: usize) -> usize {
        chunk * self.per_chunk + ((chunk >> self.shift) + 1) * self.header + self.skipped
    }
}
