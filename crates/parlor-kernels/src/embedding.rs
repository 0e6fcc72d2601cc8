//! Rows of a table by id, and the gradient that adds rows back.

use crate::View;

/// `y[row] (+)= table[ids[row]]`, widened to f32. `table` is `[entries, width]`.
///
/// # Panics
/// When an id is not in the table: the caller checks ids and says where a wrong one came from.
pub fn forward(table: View<'_>, ids: &[u32], width: usize, y: &mut [f32], write: crate::Write) {
    assert_eq!(y.len(), ids.len() * width, "room for {} rows of {width}", ids.len());
    let mut row = vec![0.0; width];
    for (y, &id) in y.chunks_exact_mut(width.max(1)).zip(ids) {
        let entry = table.slice(id as usize * width..(id as usize + 1) * width);
        match write {
            crate::Write::Replace => entry.widen_into(y),
            crate::Write::Accumulate => {
                entry.widen_into(&mut row);
                for (y, x) in y.iter_mut().zip(&row) {
                    *y += x;
                }
            }
        }
    }
}

/// `dtable[ids[row]] += dy[row]`, rows in order, so that the sum is the same on every run.
///
/// # Panics
/// When an id is not in the table.
pub fn backward(ids: &[u32], width: usize, dy: &[f32], dtable: &mut [f32]) {
    for (dy, &id) in dy.chunks_exact(width.max(1)).zip(ids) {
        let entry = &mut dtable[id as usize * width..(id as usize + 1) * width];
        for (entry, dy) in entry.iter_mut().zip(dy) {
            *entry += dy;
        }
    }
}
