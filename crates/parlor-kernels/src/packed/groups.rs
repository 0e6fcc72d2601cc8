//! The records of `Q4_K`: 256 columns of a panel's 32 rows, as exact as they lie in a file, and as small: 4.6 bits a weight.
//!
//! Two lines say what the lanes' scales and offsets are multiplied by (f16). For each of eight groups of 32 columns follow a
//! line of scales and offsets, a byte each, and four lines for either half of the lanes, as `Q4_0` has them.

use half::f16;

use super::{BLOCK, HALVES, LANES, Order, PANEL, STEP};
use crate::BlockView;
use crate::blocks::of_256::{GROUPS, Q4K};
use crate::scratch::{self, Line, ROWS};

/// Lines before the groups.
pub(super) const HEAD: usize = 2;
/// Bytes of a group's levels in a row.
const LEVELS: usize = BLOCK / 2;

/// Packs up to 32 rows of `columns` into records, whose lanes without a row are zeros; `put_words` brings the levels,
/// `[row][group][16 bytes]`, into the lines of their steps.
pub(super) fn pack(
    weight: BlockView<'_>,
    columns: usize,
    records: &mut [Line],
    put_words: impl Fn(&[u8], &mut [Line], usize),
) {
    let blocks = columns / Order::Groups.columns();
    let row_bytes = blocks * GROUPS * LEVELS;
    let bytes = weight.bytes();
    let rows = weight.len() / columns;
    scratch::with(&ROWS, rows * row_bytes, |levels: &mut [u8]| {
        let per_row = bytes.len() / rows.max(1);
        for (row, (own, levels)) in
            bytes.chunks_exact(per_row.max(1)).zip(levels.chunks_exact_mut(row_bytes)).enumerate()
        {
            let parts = own.chunks_exact(per_row / blocks).zip(levels.chunks_exact_mut(GROUPS * LEVELS));
            for ((own, levels), record) in parts.zip(records.chunks_exact_mut(Order::Groups.lines())) {
                let own = Q4K::of(own);
                let (head, groups) = record.split_at_mut(HEAD);
                for (line, factor) in head.iter_mut().zip(own.factors) {
                    let factors: &mut [f16] = bytemuck::cast_slice_mut(std::slice::from_mut(line));
                    factors[row] = factor;
                }
                let groups = groups.chunks_exact_mut(Order::Groups.block_lines());
                for (group, (scale, offset)) in groups.zip(own.scales.into_iter().zip(own.offsets)) {
                    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut group[..1]);
                    (bytes[row], bytes[PANEL + row]) = (scale, offset);
                }
                pair_up(own.levels, levels);
            }
        }
        for (index, record) in records.chunks_exact_mut(Order::Groups.lines()).enumerate() {
            put_words(levels, &mut record[HEAD..], index * GROUPS * LEVELS);
        }
    });
}

/// From two groups in the halves of 32 bytes to one group in 16, its first half of columns in the low halves.
fn pair_up(levels: &[u8], out: &mut [u8]) {
    for (both, out) in levels.chunks_exact(BLOCK).zip(out.chunks_exact_mut(BLOCK)) {
        let (first, second) = both.split_at(LEVELS);
        let (even, odd) = out.split_at_mut(LEVELS);
        for at in 0..LEVELS {
            even[at] = first[at] & 15 | second[at] << 4;
            odd[at] = first[at] >> 4 | second[at] & 0xF0;
        }
    }
}

/// The lines of a record's groups, in plain loops.
pub(super) fn put_words(levels: &[u8], row_bytes: usize, groups: &mut [Line], first: usize) {
    for (row, levels) in levels.chunks_exact(row_bytes).enumerate() {
        let parts = levels[first..].chunks_exact(LEVELS);
        for (levels, group) in parts.zip(groups.chunks_exact_mut(Order::Groups.block_lines())) {
            let lines: &mut [[u8; STEP]] = bytemuck::cast_slice_mut(&mut group[1..]);
            for (line, four) in levels.chunks_exact(STEP).enumerate() {
                lines[line * PANEL + row].copy_from_slice(four);
            }
        }
    }
}

/// The number of lane `lane` and column `column` of a record.
pub(super) fn value(record: &[Line], lane: usize, column: usize) -> f32 {
    let (head, groups) = record.split_at(HEAD);
    let factors: &[f16] = bytemuck::cast_slice(head);
    let group = &groups[column / BLOCK * Order::Groups.block_lines()..];
    let (about, lines): (&[u8], &[[u8; STEP]]) =
        (bytemuck::cast_slice(&group[..1]), bytemuck::cast_slice(&group[1..]));
    let (step, byte) = (column % BLOCK / STEP, column % STEP);
    let level = lines[step % 4 * PANEL + lane][byte] >> (step / 4 * 4) & 15;
    let scale = factors[lane].to_f32() * f32::from(about[lane]);
    let offset = factors[PANEL + lane].to_f32() * f32::from(about[PANEL + lane]);
    f32::from(level) * scale - offset
}

/// What a half's lanes are multiplied by, and what is taken from each of their columns, in the group whose first line is `about`.
pub(super) fn scales_and_offsets(head: &[Line], about: &Line, half: usize) -> [[f32; LANES]; HALVES] {
    let factors: &[f16] = bytemuck::cast_slice(head);
    let about: &[u8] = bytemuck::bytes_of(about);
    [0, PANEL].map(|first| {
        let at = first + half * LANES;
        std::array::from_fn(|lane| factors[at + lane].to_f32() * f32::from(about[at + lane]))
    })
}
