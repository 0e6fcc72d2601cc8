//! Embedding lookup, and its gradient.

use crate::cpu::simd::Element;
use crate::matmul::Write;
use crate::memory::{ValuesMut, View};

/// `y[row] (+)= table[ids[row]]`, widened to f32. `table` is `[entries, width]`.
///
/// # Panics
/// When an id is not in the table: the caller checks ids, and reports where a wrong one came from.
pub fn forward(table: View<'_>, ids: &[u32], width: usize, y: &mut [f32], write: Write) {
    assert_eq!(y.len(), ids.len() * width, "{} rows of {width}", ids.len());
    let mut row = vec![0.0; width];
    for (y, &id) in y.chunks_exact_mut(width.max(1)).zip(ids) {
        let entry = table.slice(id as usize * width..(id as usize + 1) * width);
        match write {
            Write::Replace => entry.widen_into(y),
            Write::Accumulate => {
                entry.widen_into(&mut row);
                for (y, x) in y.iter_mut().zip(&row) {
                    *y += x;
                }
            }
        }
    }
}

/// `dtable[ids[row]] += dy[row]`. The rows of an entry are added in order and in f32, so that the sum is the same in every
/// run, and rounded once.
///
/// # Panics
/// When an id is not in the table.
pub fn backward<'a>(ids: &[u32], width: usize, dy: &[f32], dtable: impl Into<ValuesMut<'a>>) {
    assert_eq!(dy.len(), ids.len() * width, "{} rows of {width}", ids.len());
    if width == 0 {
        return;
    }
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_key(|&row| ids[row]);
    match dtable.into() {
        ValuesMut::F32(table) => add_rows(ids, (&order, width), dy, table),
        ValuesMut::Bf16(table) => add_rows(ids, (&order, width), dy, table),
    }
}

/// As [`backward`]; `order` is the rows sorted by id.
fn add_rows<T: Element>(ids: &[u32], (order, width): (&[usize], usize), dy: &[f32], table: &mut [T]) {
    let mut sum = vec![0.0; width];
    for rows in order.chunk_by(|&a, &b| ids[a] == ids[b]) {
        let id = ids[rows[0]] as usize;
        let entry = &mut table[id * width..(id + 1) * width];
        for (sum, entry) in sum.iter_mut().zip(&*entry) {
            *sum = entry.widen();
        }
        for &row in rows {
            for (sum, dy) in sum.iter_mut().zip(&dy[row * width..(row + 1) * width]) {
                *sum += dy;
            }
        }
        for (entry, sum) in entry.iter_mut().zip(&sum) {
            *entry = T::narrow(*sum);
        }
    }
}
