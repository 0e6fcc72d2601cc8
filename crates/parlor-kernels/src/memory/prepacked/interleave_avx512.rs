//! Interleaving with 512-bit registers: 16 x 16 words of 32 bits are transposed at a time.

use std::arch::x86_64::*;

use super::layout::{HALVES, LANES, STEP};
use super::words::WordLayout;
use crate::cpu::avx512::transpose_16x16;
use crate::memory::scratch::CacheLine;

/// Prefetch distance in each row, in bytes: the hardware prefetcher does not follow 16 rows at once.
const PREFETCH_BYTES: usize = 512;

/// # Safety
/// AVX-512F is there.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn interleave_words(bytes: &[u8], layout: WordLayout, out: &mut [CacheLine]) {
    let WordLayout { row, first, chunk, chunks, words, .. } = layout;
    let lines = layout.lines();
    let rows = bytes.len() / row;
    // Chunks that fill a register.
    let together = LANES / words;
    assert!(
        first + (chunks - 1) * chunk + words * STEP <= row
            && lines.of(chunks - 1) + words * HALVES <= out.len(),
        "words of a row, and room for them"
    );
    // Blocks of 16 whole registers, which need no further checks, and the rest.
    let whole = chunks - chunks % together;
    for half in 0..HALVES {
        let whole_blocks = if (half + 1) * LANES <= rows { whole } else { 0 };
        for start in (0..whole_blocks).step_by(together) {
            // SAFETY: the rows of this half are there, and so are so many chunks, as was checked.
            unsafe {
                match words {
                    1 => transpose_block::<1>(bytes, layout, half, start, out),
                    2 => transpose_block::<2>(bytes, layout, half, start, out),
                    4 => transpose_block::<4>(bytes, layout, half, start, out),
                    _ => transpose_block::<8>(bytes, layout, half, start, out),
                }
            }
        }
        for start in (whole_blocks..chunks).step_by(together) {
            transpose_edge(bytes, layout, half, start, out);
        }
    }
}

/// Transposes one register of words from each of 16 rows.
///
/// # Safety
/// AVX-512F is there, and so are the rows, as many chunks of `WORDS` words as fill a register, and their lines.
#[target_feature(enable = "avx512f")]
unsafe fn transpose_block<const WORDS: usize>(
    bytes: &[u8],
    layout: WordLayout,
    half: usize,
    start: usize,
    out: &mut [CacheLine],
) {
    let WordLayout { row, first, chunk, flip, .. } = layout;
    let lines = layout.lines();
    // SAFETY: the contract of the caller; a prefetch may miss.
    unsafe {
        let own = bytes.as_ptr().add(half * LANES * row + start * chunk + first);
        let mut values = [_mm512_setzero_si512(); LANES];
        for (lane, value) in values.iter_mut().enumerate() {
            let own = own.add(lane * row);
            _mm_prefetch::<_MM_HINT_T0>(own.wrapping_add(PREFETCH_BYTES).cast());
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
        transpose_16x16(&mut values);
        let flip = _mm512_set1_epi32(flip.cast_signed());
        let to = out.as_mut_ptr().add(half);
        for (index, value) in values.into_iter().enumerate() {
            let to = to.add(lines.of(start + index / WORDS) + index % WORDS * HALVES);
            _mm512_store_si512(to.cast(), _mm512_xor_si512(value, flip));
        }
    }
}

/// As [`transpose_block`], of fewer rows or chunks.
#[target_feature(enable = "avx512f")]
fn transpose_edge(bytes: &[u8], layout: WordLayout, half: usize, start: usize, out: &mut [CacheLine]) {
    let WordLayout { row, first, chunk, chunks, words, flip, .. } = layout;
    let lines = layout.lines();
    let (rows, count) = (bytes.len() / row, (LANES / words).min(chunks - start));
    let mut values = [_mm512_setzero_si512(); LANES];
    for (lane, value) in values.iter_mut().enumerate() {
        let at = half * LANES + lane;
        if at < rows {
            *value = load_words(&bytes[at * row + first + start * chunk..], chunk, count, words);
        }
    }
    transpose_16x16(&mut values);
    let flip = _mm512_set1_epi32(flip.cast_signed());
    for (index, value) in values.into_iter().enumerate().take(count * words) {
        let at = lines.of(start + index / words) + index % words * HALVES + half;
        let to: *mut CacheLine = &raw mut out[at];
        // SAFETY: a line is 64 bytes and aligned to them.
        unsafe { _mm512_store_si512(to.cast(), _mm512_xor_si512(value, flip)) };
    }
}

/// The words of `count` chunks.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(own: &[u8], chunk: usize, count: usize, words: usize) -> __m512i {
    let bytes = words * STEP;
    // WordLayout that lie side by side.
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
