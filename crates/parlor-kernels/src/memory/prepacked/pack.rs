//! Packs the rows of a panel: quants and high bits are interleaved as words, where they lie or after they are reordered; scales are
//! written one by one.

use bytemuck::cast_slice_mut;
use half::{bf16, f16};

use super::interleave::interleave_words;
use super::layout::{BLOCK, HALVES, LANES, PANEL, PackedLayout, STEP, ScaleKind, StepPosition};
use super::source::PackSource;
use super::words::WordLayout;
use crate::cpu::simd::dispatch;
use crate::memory::scratch::{self, CacheLine, WIDENED_ROWS};
use crate::quant::{self, k_quants, legacy, nf4};
use crate::{BlockFormat, BlockView};

/// Bytes of the nibbles of a block in a row.
const NIBBLES: usize = BLOCK / 2;

/// Packs at most 32 rows of `columns` into the lines of a panel. Lanes without a row are zeros.
pub(super) fn pack_panel(
    layout: PackedLayout,
    weight: PackSource<'_>,
    columns: usize,
    lines: &mut [CacheLine],
) {
    if weight.len() < PANEL * columns {
        lines.fill(CacheLine::default());
    }
    match weight {
        PackSource::Bf16(values) => pack_bf16(values, columns, lines),
        PackSource::Blocks(values) => pack_blocks(layout, values, columns, lines),
    }
}

/// Packs bf16 rows; an odd last column is paired with a zero.
fn pack_bf16(weight: &[bf16], columns: usize, lines: &mut [CacheLine]) {
    if columns.is_multiple_of(2) {
        let layout = WordLayout {
            row: 2 * columns,
            first: 0,
            chunk: STEP,
            chunks: columns / 2,
            words: 1,
            layout: PackedLayout::Bf16Pairs,
            skipped: 0,
            flip: 0,
        };
        return interleave_words(bytemuck::cast_slice(weight), layout, lines);
    }
    let pairs: &mut [[bf16; 2]] = cast_slice_mut(lines);
    for (row, values) in weight.chunks_exact(columns).enumerate() {
        for (at, pair) in values.chunks(2).enumerate() {
            pairs[at * PANEL + row] = [pair[0], pair.get(1).copied().unwrap_or(bf16::ZERO)];
        }
    }
}

/// Packs quantized rows.
fn pack_blocks(layout: PackedLayout, weight: BlockView<'_>, columns: usize, lines: &mut [CacheLine]) {
    let (rows, blocks) = (weight.len() / columns, columns / BLOCK);
    let row = weight.bytes().len() / rows.max(1);
    if row == 0 {
        return;
    }
    pack_scales(layout, weight, columns, lines);
    let quants = WordLayout {
        row,
        first: 0,
        chunk: row / blocks,
        chunks: blocks,
        words: layout.quant_lines(),
        skipped: layout.scale_lines() + HALVES * layout.high_bits(),
        layout,
        flip: 0,
    };
    match layout {
        PackedLayout::Q8_0 => {
            interleave_words(weight.bytes(), WordLayout { first: 2, flip: 0x8080_8080, ..quants }, lines);
        }
        PackedLayout::Q4_0 => interleave_words(weight.bytes(), WordLayout { first: 2, ..quants }, lines),
        PackedLayout::Q4_1 => interleave_words(weight.bytes(), WordLayout { first: 4, ..quants }, lines),
        _ => {
            let (nibbles, high) = (blocks * NIBBLES, blocks * layout.high_bits() * STEP);
            scratch::with(&WIDENED_ROWS, rows * (nibbles + high), |reordered: &mut [u8]| {
                let (all_nibbles, all_high) = reordered.split_at_mut(rows * nibbles);
                reorder(weight, all_nibbles, all_high);
                interleave_words(all_nibbles, WordLayout { row: nibbles, chunk: NIBBLES, ..quants }, lines);
                if high > 0 {
                    let bits = WordLayout {
                        row: high,
                        chunk: layout.high_bits() * STEP,
                        words: layout.high_bits(),
                        skipped: layout.scale_lines(),
                        ..quants
                    };
                    interleave_words(all_high, bits, lines);
                }
            });
        }
    }
}

/// Rewrites rows of formats whose quants are not yet in the order of the layout: the nibbles and the high bits of each block.
fn reorder(weight: BlockView<'_>, nibbles: &mut [u8], high: &mut [u8]) {
    dispatch(
        #[inline(always)]
        || {
            // Each format as a constant, so that each has a loop of its own.
            match weight.format() {
                BlockFormat::Q4K => reorder_as(BlockFormat::Q4K, weight, nibbles, high),
                BlockFormat::Q5K => reorder_as(BlockFormat::Q5K, weight, nibbles, high),
                BlockFormat::Q6K => reorder_as(BlockFormat::Q6K, weight, nibbles, high),
                BlockFormat::Q5_0 => reorder_as(BlockFormat::Q5_0, weight, nibbles, high),
                BlockFormat::Q5_1 => reorder_as(BlockFormat::Q5_1, weight, nibbles, high),
                _ => reorder_as(BlockFormat::Nf4, weight, nibbles, high),
            }
        },
    );
}

#[inline(always)]
fn reorder_as(format: BlockFormat, weight: BlockView<'_>, nibbles: &mut [u8], high: &mut [u8]) {
    let layout = PackedLayout::of(format);
    let groups = format.elements() / BLOCK;
    let per_block = format.block_bytes();
    let nibbles = nibbles.chunks_exact_mut(groups * NIBBLES);
    let mut high = high.chunks_exact_mut((groups * layout.high_bits() * STEP).max(1));
    for (bytes, nibbles) in weight.bytes().chunks_exact(per_block).zip(nibbles) {
        let high = high.next().unwrap_or_default();
        for (group, nibbles) in nibbles.chunks_exact_mut(NIBBLES).enumerate() {
            let words = quant::unpack_quants(format, bytes, group);
            let mut lines = [0u32; NIBBLES / STEP];
            let mut bits = [0u32; 2];
            for (step, word) in words.into_iter().enumerate() {
                let StepPosition { sub_block, line, is_high_nibble, shift } = StepPosition::of(layout, step);
                lines[line] |= (word & 0x0F0F_0F0F) << if is_high_nibble { 4 } else { 0 };
                if layout.high_bits() > 0 {
                    // No quant has more bits than these.
                    bits[sub_block] |= (word >> 4 & 0x0F0F_0F0F) << shift;
                }
            }
            nibbles.copy_from_slice(bytemuck::bytes_of(&lines.map(u32::to_le)));
            let own = layout.high_bits() * STEP;
            high[group * own..][..own].copy_from_slice(&bytemuck::bytes_of(&bits.map(u32::to_le))[..own]);
        }
    }
}

/// Writes the scales and minima of all blocks.
fn pack_scales(layout: PackedLayout, weight: BlockView<'_>, columns: usize, lines: &mut [CacheLine]) {
    let format = weight.format();
    let per_block = format.block_bytes();
    let per_row = columns / format.elements();
    let rows = weight.bytes().chunks_exact(per_block * per_row).enumerate();
    for (row, own) in rows {
        let lines = lines.chunks_exact_mut(layout.lines());
        for (index, (bytes, interleaved)) in own.chunks_exact(per_block).zip(lines).enumerate() {
            let block = |index: usize| layout.header_lines() + index * layout.block_lines();
            match layout.scale_kind() {
                ScaleKind::PerBlock | ScaleKind::PerBlockWithMin => {
                    let (scale, smallest) = legacy::scale_and_min(format, bytes);
                    f16_line(interleaved, 0)[row] = scale;
                    if let Some(smallest) = smallest {
                        f16_line(interleaved, 1)[row] = -smallest;
                    }
                }
                ScaleKind::SuperBlock => {
                    let own = k_quants::ScalesAndMins::of(bytes);
                    for (line, factor) in own.super_scales.into_iter().enumerate() {
                        f16_line(interleaved, line)[row] = factor;
                    }
                    for (group, (scale, min)) in own.scales.into_iter().zip(own.mins).enumerate() {
                        let line = bytemuck::bytes_of_mut(&mut interleaved[block(group)]);
                        (line[row], line[PANEL + row]) = (scale, min);
                    }
                }
                ScaleKind::SuperBlockOfHalves => {
                    let (factor, scales) = k_quants::q6_k_scales(bytes);
                    f16_line(interleaved, 0)[row] = factor;
                    for (group, scales) in scales.chunks_exact(2).enumerate() {
                        let line = bytemuck::bytes_of_mut(&mut interleaved[block(group)]);
                        (line[row], line[PANEL + row]) = (scales[0], scales[1]);
                    }
                }
                ScaleKind::PerTwoBlocks => {
                    let line = &mut interleaved[block(row / LANES)..][..1];
                    let scales: &mut [f32] = cast_slice_mut(line);
                    scales[row % LANES] = weight.scale(row * per_row + index) * nf4::INT8_UNIT;
                }
            }
        }
    }
}

fn f16_line(interleaved: &mut [CacheLine], line: usize) -> &mut [f16] {
    cast_slice_mut(&mut interleaved[line..=line])
}
