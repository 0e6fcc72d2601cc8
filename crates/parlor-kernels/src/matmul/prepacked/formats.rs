//! From the blocks of a format to the records of its order: scales are put one by one, codes and high bits as words of a row, those
//! of a file where they lie as a record has them.

use bytemuck::cast_slice_mut;
use half::f16;

use super::order::Scaling;
use super::packing::{Words, pack_words};
use super::record::Place;
use super::{BLOCK, HALVES, LANES, Order, PANEL, STEP};
use crate::cpu::simd::dispatch;
use crate::memory::scratch::{self, CacheLine, WIDENED_ROWS};
use crate::quant::{self, k_quants, legacy, nf4};
use crate::{BlockFormat, BlockView};

/// Bytes of a block's codes in a row, without their high bits.
const NIBBLES: usize = BLOCK / 2;

/// Packs up to 32 rows of `columns` into `records`, whose lanes without a row are zeros.
pub(super) fn pack(order: Order, weight: BlockView<'_>, columns: usize, records: &mut [CacheLine]) {
    let (rows, blocks) = (weight.len() / columns, columns / BLOCK);
    let row = weight.bytes().len() / rows.max(1);
    if row == 0 {
        return;
    }
    put_scales(order, weight, columns, records);
    let codes = Words {
        row,
        first: 0,
        chunk: row / blocks,
        chunks: blocks,
        words: order.code_lines(),
        skipped: order.scale_lines() + HALVES * order.high(),
        order,
        flip: 0,
    };
    match order {
        Order::Q8_0 => pack_words(weight.bytes(), Words { first: 2, flip: 0x8080_8080, ..codes }, records),
        Order::Q4_0 => pack_words(weight.bytes(), Words { first: 2, ..codes }, records),
        Order::Q4_1 => pack_words(weight.bytes(), Words { first: 4, ..codes }, records),
        _ => {
            let (nibbles, high) = (blocks * NIBBLES, blocks * order.high() * STEP);
            scratch::with(&WIDENED_ROWS, rows * (nibbles + high), |staged: &mut [u8]| {
                let (all_nibbles, all_high) = staged.split_at_mut(rows * nibbles);
                stage(weight, all_nibbles, all_high);
                pack_words(all_nibbles, Words { row: nibbles, chunk: NIBBLES, ..codes }, records);
                if high > 0 {
                    let bits = Words {
                        row: high,
                        chunk: order.high() * STEP,
                        words: order.high(),
                        skipped: order.scale_lines(),
                        ..codes
                    };
                    pack_words(all_high, bits, records);
                }
            });
        }
    }
}

/// The words of all rows' codes, and those of their high bits.
fn stage(weight: BlockView<'_>, nibbles: &mut [u8], high: &mut [u8]) {
    dispatch(
        #[inline(always)]
        || {
            // Named, so that each has a loop of its own.
            match weight.format() {
                BlockFormat::Q4K => stage_as(BlockFormat::Q4K, weight, nibbles, high),
                BlockFormat::Q5K => stage_as(BlockFormat::Q5K, weight, nibbles, high),
                BlockFormat::Q6K => stage_as(BlockFormat::Q6K, weight, nibbles, high),
                BlockFormat::Q5_0 => stage_as(BlockFormat::Q5_0, weight, nibbles, high),
                BlockFormat::Q5_1 => stage_as(BlockFormat::Q5_1, weight, nibbles, high),
                _ => stage_as(BlockFormat::Nf4, weight, nibbles, high),
            }
        },
    );
}

#[inline(always)]
fn stage_as(format: BlockFormat, weight: BlockView<'_>, nibbles: &mut [u8], high: &mut [u8]) {
    let order = Order::of(format);
    let groups = format.elements() / BLOCK;
    let per_block = format.block_bytes();
    let nibbles = nibbles.chunks_exact_mut(groups * NIBBLES);
    let mut high = high.chunks_exact_mut((groups * order.high() * STEP).max(1));
    for (bytes, nibbles) in weight.bytes().chunks_exact(per_block).zip(nibbles) {
        let high = high.next().unwrap_or_default();
        for (group, nibbles) in nibbles.chunks_exact_mut(NIBBLES).enumerate() {
            let words = quant::unpack_quants(format, bytes, group);
            let mut lines = [0u32; NIBBLES / STEP];
            let mut bits = [0u32; 2];
            for (step, word) in words.into_iter().enumerate() {
                let Place { fold, line, upper, shift } = Place::of(order, step);
                lines[line] |= (word & 0x0F0F_0F0F) << if upper { 4 } else { 0 };
                if order.high() > 0 {
                    // No level has more bits than these.
                    bits[fold] |= (word >> 4 & 0x0F0F_0F0F) << shift;
                }
            }
            nibbles.copy_from_slice(bytemuck::bytes_of(&lines.map(u32::to_le)));
            let own = order.high() * STEP;
            high[group * own..][..own].copy_from_slice(&bytemuck::bytes_of(&bits.map(u32::to_le))[..own]);
        }
    }
}

/// The scales of all blocks, and their offsets.
fn put_scales(order: Order, weight: BlockView<'_>, columns: usize, records: &mut [CacheLine]) {
    let format = weight.format();
    let per_block = format.block_bytes();
    let per_row = columns / format.elements();
    let rows = weight.bytes().chunks_exact(per_block * per_row).enumerate();
    for (row, own) in rows {
        let records = records.chunks_exact_mut(order.lines());
        for (index, (bytes, record)) in own.chunks_exact(per_block).zip(records).enumerate() {
            let block = |index: usize| order.head() + index * order.block_lines();
            match order.scaling() {
                Scaling::One | Scaling::Two => {
                    let (scale, smallest) = legacy::scale_and_min(format, bytes);
                    halves(record, 0)[row] = scale;
                    if let Some(smallest) = smallest {
                        halves(record, 1)[row] = -smallest;
                    }
                }
                Scaling::Groups => {
                    let own = k_quants::ScalesAndMins::of(bytes);
                    for (line, factor) in own.super_scales.into_iter().enumerate() {
                        halves(record, line)[row] = factor;
                    }
                    for (group, (scale, offset)) in own.scales.into_iter().zip(own.mins).enumerate() {
                        let line = bytemuck::bytes_of_mut(&mut record[block(group)]);
                        (line[row], line[PANEL + row]) = (scale, offset);
                    }
                }
                Scaling::Halves => {
                    let (factor, scales) = k_quants::q6_k_scales(bytes);
                    halves(record, 0)[row] = factor;
                    for (group, scales) in scales.chunks_exact(2).enumerate() {
                        let line = bytemuck::bytes_of_mut(&mut record[block(group)]);
                        (line[row], line[PANEL + row]) = (scales[0], scales[1]);
                    }
                }
                Scaling::Wide => {
                    let line = &mut record[block(row / LANES)..][..1];
                    let scales: &mut [f32] = cast_slice_mut(line);
                    scales[row % LANES] = weight.scale(row * per_row + index) * nf4::INT8_UNIT;
                }
            }
        }
    }
}

fn halves(record: &mut [CacheLine], line: usize) -> &mut [f16] {
    cast_slice_mut(&mut record[line..=line])
}
