//! From rows to panels. Formats differ in the bytes of a row that make a line of a panel, four for each lane; bringing them
//! together is an exchange of rows and columns of 32-bit words, 16 by 16 at a time where there are registers for it.

use half::bf16;

use super::{HALVES, LANES, Order, PANEL, STEP, formats};
use crate::View;
use crate::memory::scratch::CacheLine;

/// Packs the rows of a panel, at most 32, `columns` each, into records, whatever they hold.
pub(super) fn pack(order: Order, weight: View<'_>, columns: usize, records: &mut [CacheLine]) {
    // Lanes without a row are zeros.
    if weight.len() < PANEL * columns {
        records.fill(CacheLine::default());
    }
    match weight {
        View::Bf16(values) => pack_pairs(values, columns, records),
        View::Block(values) => formats::pack(order, values, columns, records),
        _ => {}
    }
}

fn pack_pairs(weight: &[bf16], columns: usize, records: &mut [CacheLine]) {
    if columns.is_multiple_of(2) {
        let layout = Words {
            row: 2 * columns,
            first: 0,
            chunk: STEP,
            chunks: columns / 2,
            words: 1,
            order: Order::Pairs,
            skipped: 0,
            flip: 0,
        };
        return pack_words(bytemuck::cast_slice(weight), layout, records);
    }
    let records: &mut [[bf16; 2]] = bytemuck::cast_slice_mut(records);
    for (row, values) in weight.chunks_exact(columns).enumerate() {
        for (at, pair) in values.chunks(2).enumerate() {
            records[at * PANEL + row] = [pair[0], pair.get(1).copied().unwrap_or(bf16::ZERO)];
        }
    }
}

/// Where the words of a row lie, and where their lines go.
#[derive(Clone, Copy)]
pub(super) struct Words {
    /// Bytes of a row.
    pub(super) row: usize,
    /// Bytes before the first word of a chunk, bytes from one chunk to the next, and chunks of a row.
    pub(super) first: usize,
    pub(super) chunk: usize,
    pub(super) chunks: usize,
    /// Words of a chunk: a power of two.
    pub(super) words: usize,
    /// Whose records they go to, a chunk to a block, and the block's lines before those of the words.
    pub(super) order: Order,
    pub(super) skipped: usize,
    /// Bits to change in each word.
    pub(super) flip: u32,
}

/// Where the lines of chunks begin.
#[derive(Clone, Copy)]
struct Lines {
    /// Lines of a chunk, and those before the words'.
    per_chunk: usize,
    skipped: usize,
    /// Lines of a record's head, and how many times two to a record there are chunks.
    head: usize,
    shift: u32,
}

impl Words {
    fn lines(self) -> Lines {
        let (per_chunk, shift) = match self.order {
            Order::Pairs => (HALVES, 0),
            order => (order.block_lines(), order.blocks().ilog2()),
        };
        Lines { per_chunk, skipped: self.skipped, head: self.order.head(), shift }
    }
}

impl Lines {
    /// The first line of a chunk's words.
    #[inline(always)]
    fn of(self, chunk: usize) -> usize {
        chunk * self.per_chunk + ((chunk >> self.shift) + 1) * self.head + self.skipped
    }
}

/// Brings the words of up to 32 rows into lines.
pub(super) fn pack_words(bytes: &[u8], layout: Words, records: &mut [CacheLine]) {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::isa::allows(crate::cpu::isa::Isa::Avx512) {
        // SAFETY: the instruction set is there.
        return unsafe { avx512::pack_words(bytes, layout, records) };
    }
    let Words { row, first, chunk, words, flip, .. } = layout;
    let lines = layout.lines();
    let records: &mut [[u32; LANES]] = bytemuck::cast_slice_mut(records);
    for (row, own) in bytes.chunks_exact(row).enumerate() {
        for (index, own) in own.chunks(chunk).enumerate().take(layout.chunks) {
            let to = &mut records[lines.of(index)..];
            for (word, four) in own[first..].chunks_exact(STEP).take(words).enumerate() {
                let four = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
                to[word * HALVES + row / LANES][row % LANES] = four ^ flip;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{CacheLine, HALVES, LANES, STEP, Words};
    use crate::matmul::gemm::transpose;

    /// Bytes of each row that are asked for ahead of those in use: so many rows at once are more than the processor follows.
    const AHEAD: usize = 512;

    /// # Safety
    /// AVX-512F is there.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn pack_words(bytes: &[u8], layout: Words, records: &mut [CacheLine]) {
        let Words { row, first, chunk, chunks, words, .. } = layout;
        let lines = layout.lines();
        let rows = bytes.len() / row;
        // Chunks that fill a register.
        let together = LANES / words;
        assert!(
            first + (chunks - 1) * chunk + words * STEP <= row
                && lines.of(chunks - 1) + words * HALVES <= records.len(),
            "words of a row, and records for them"
        );
        // Squares of whole registers, whose addresses are known to be good, and those at the ends.
        let whole = chunks - chunks % together;
        for half in 0..HALVES {
            let squares = if (half + 1) * LANES <= rows { whole } else { 0 };
            for start in (0..squares).step_by(together) {
                // SAFETY: the rows of this half are there, and so are so many chunks, as was checked.
                unsafe {
                    match words {
                        1 => square::<1>(bytes, layout, half, start, records),
                        2 => square::<2>(bytes, layout, half, start, records),
                        4 => square::<4>(bytes, layout, half, start, records),
                        _ => square::<8>(bytes, layout, half, start, records),
                    }
                }
            }
            for start in (squares..chunks).step_by(together) {
                edge(bytes, layout, half, start, records);
            }
        }
    }

    /// The words of 16 rows that fill a register.
    ///
    /// # Safety
    /// AVX-512F is there, and so are the rows, chunks of `WORDS` words that fill a register, and their records.
    #[target_feature(enable = "avx512f")]
    unsafe fn square<const WORDS: usize>(
        bytes: &[u8],
        layout: Words,
        half: usize,
        start: usize,
        records: &mut [CacheLine],
    ) {
        let Words { row, first, chunk, flip, .. } = layout;
        let lines = layout.lines();
        // SAFETY: the contract of the caller; what is asked for ahead need not be there.
        unsafe {
            let own = bytes.as_ptr().add(half * LANES * row + start * chunk + first);
            let mut values = [_mm512_setzero_si512(); LANES];
            for (lane, value) in values.iter_mut().enumerate() {
                let own = own.add(lane * row);
                _mm_prefetch::<_MM_HINT_T0>(own.wrapping_add(AHEAD).cast());
                *value = match WORDS {
                    1 | 2 => _mm512_loadu_si512(own.cast()),
                    8 => {
                        let low = _mm512_castsi256_si512(_mm256_loadu_si256(own.cast()));
                        _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(own.add(chunk).cast()))
                    }
                    _ => {
                        let quarter = |index: usize| _mm_loadu_si128(own.add(index * chunk).cast());
                        let low = _mm512_castsi128_si512(quarter(0));
                        let low = _mm512_inserti32x4::<1>(low, quarter(1));
                        _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(low, quarter(2)), quarter(3))
                    }
                };
            }
            transpose(&mut values);
            let flip = _mm512_set1_epi32(flip.cast_signed());
            let to = records.as_mut_ptr().add(half);
            for (index, value) in values.into_iter().enumerate() {
                let to = to.add(lines.of(start + index / WORDS) + index % WORDS * HALVES);
                _mm512_store_si512(to.cast(), _mm512_xor_si512(value, flip));
            }
        }
    }

    /// As [`square`], of the rows and chunks that there are.
    #[target_feature(enable = "avx512f")]
    fn edge(bytes: &[u8], layout: Words, half: usize, start: usize, records: &mut [CacheLine]) {
        let Words { row, first, chunk, chunks, words, flip, .. } = layout;
        let lines = layout.lines();
        let (rows, count) = (bytes.len() / row, (LANES / words).min(chunks - start));
        let mut values = [_mm512_setzero_si512(); LANES];
        for (lane, value) in values.iter_mut().enumerate() {
            let at = half * LANES + lane;
            if at < rows {
                *value = gather(&bytes[at * row + first + start * chunk..], chunk, count, words);
            }
        }
        transpose(&mut values);
        let flip = _mm512_set1_epi32(flip.cast_signed());
        for (index, value) in values.into_iter().enumerate().take(count * words) {
            let at = lines.of(start + index / words) + index % words * HALVES + half;
            let to: *mut CacheLine = &raw mut records[at];
            // SAFETY: a line is 64 bytes and aligned to them.
            unsafe { _mm512_store_si512(to.cast(), _mm512_xor_si512(value, flip)) };
        }
    }

    /// The words of `count` chunks.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn gather(own: &[u8], chunk: usize, count: usize, words: usize) -> __m512i {
        let bytes = words * STEP;
        // Words that lie side by side.
        if chunk == bytes {
            let own = &own[..count * bytes];
            let mask = if count * words >= LANES { u16::MAX } else { (1 << (count * words)) - 1 };
            // SAFETY: the mask leaves out what lies past the chunks.
            return unsafe { _mm512_maskz_loadu_epi32(mask, own.as_ptr().cast()) };
        }
        // SAFETY: a chunk's words lie in its bytes, as the slices check.
        unsafe {
            let at = |index: usize| own[index * chunk..][..bytes].as_ptr();
            if bytes == 32 {
                let low = _mm256_loadu_si256(at(0).cast());
                let high = if count > 1 { _mm256_loadu_si256(at(1).cast()) } else { _mm256_setzero_si256() };
                return _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            }
            assert_eq!(bytes, 16, "chunks of 16 or of 32 bytes");
            let quarter = |index: usize| {
                if index < count { _mm_loadu_si128(at(index).cast()) } else { _mm_setzero_si128() }
            };
            let half = |index: usize| _mm256_set_m128i(quarter(index + 1), quarter(index));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(half(0)), half(2))
        }
    }
}
