//! f32 gemm by the `gemm` crate, behind bounds that are checked once.
//!
//! The crate chooses its own instructions. It is one method among others (`matmul::choose`): for f32 weights where the widest
//! instruction set is AVX2 or NEON; and always for Muon's iteration, whose matrices are small and square.

use std::marker::PhantomData;
use std::ops::Range;

use super::write::Write;
use crate::parallel::threads::parallel_for;

/// A strided matrix for reading.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    data: *const f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
    borrow: PhantomData<&'a [f32]>,
}

// SAFETY: it is as good as a shared slice.
unsafe impl Sync for Mat<'_> {}

/// A strided matrix for writing. Two of them may interleave in memory as long as no element is shared.
pub(crate) struct MatMut<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: a shared one can only be split into parts, whose callers promise that they are disjoint.
unsafe impl Sync for MatMut<'_> {}

/// Elements from the first to one past the last of a strided matrix.
fn extent(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + (cols - 1) * col_stride + 1 }
}

/// The offset of the part of a matrix that is these rows and columns; any for an empty part.
fn first(
    rows: &Range<usize>,
    columns: &Range<usize>,
    (height, width): (usize, usize),
    (row_stride, col_stride): (usize, usize),
) -> usize {
    assert!(rows.end <= height && columns.end <= width, "a part of {height}x{width}");
    let empty = rows.is_empty() || columns.is_empty();
    if empty { 0 } else { rows.start * row_stride + columns.start * col_stride }
}

impl<'a> Mat<'a> {
    /// `rows x cols` of `data`, rows `row_stride` apart, columns adjacent.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(extent(rows, cols, row_stride, 1) <= data.len(), "matrix {rows}x{cols} exceeds its slice");
        Self { data: data.as_ptr(), rows, cols, row_stride, col_stride: 1, borrow: PhantomData }
    }

    /// Some rows and columns.
    fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        let offset = first(&rows, &columns, (self.rows, self.cols), (self.row_stride, self.col_stride));
        // SAFETY: the first element of the part is one of the matrix.
        let data = unsafe { self.data.add(offset) };
        Self { data, rows: rows.len(), cols: columns.len(), ..self }
    }

    /// The transposed matrix.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

impl<'a> MatMut<'a> {
    /// `rows x cols` of `data`, rows `row_stride` apart, columns adjacent.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(extent(rows, cols, row_stride, 1) <= data.len(), "matrix {rows}x{cols} exceeds its slice");
        Self { data: data.as_mut_ptr(), rows, cols, row_stride, col_stride: 1, borrow: PhantomData }
    }

    /// Some rows and columns.
    ///
    /// # Safety
    /// While it is used nobody else reads or writes an element of it.
    unsafe fn part(&self, rows: Range<usize>, columns: Range<usize>) -> MatMut<'a> {
        let offset = first(&rows, &columns, (self.rows, self.cols), (self.row_stride, self.col_stride));
        // SAFETY: the first element of the part is one of the matrix.
        let data = unsafe { self.data.add(offset) };
        MatMut { data, rows: rows.len(), cols: columns.len(), ..*self }
    }
}

/// `dst = scale * lhs * rhs`, or `dst += ...`, on all threads.
pub(crate) fn gemm(dst: MatMut<'_>, lhs: Mat<'_>, rhs: Mat<'_>, scale: f32, write: Write) {
    assert!(
        dst.rows == lhs.rows && dst.cols == rhs.cols && lhs.cols == rhs.rows,
        "product of {}x{} and {}x{} into {}x{}",
        lhs.rows,
        lhs.cols,
        rhs.rows,
        rhs.cols,
        dst.rows,
        dst.cols
    );
    if dst.rows == 0 || dst.cols == 0 {
        return;
    }
    // Tasks along the longer side of the result: the same on every machine.
    let by_rows = dst.rows >= dst.cols;
    let (long, short) = if by_rows { (dst.rows, dst.cols) } else { (dst.cols, dst.rows) };
    let most = (long * short * lhs.cols / MIN_TASK_FLOPS).clamp(1, TASKS);
    let step = long.div_ceil(most).next_multiple_of(UNIT);
    let dst = &dst;
    parallel_for(long.div_ceil(step), |task| {
        let own = task * step..((task + 1) * step).min(long);
        let (rows, columns) = if by_rows { (own, 0..dst.cols) } else { (0..dst.rows, own) };
        // SAFETY: the part lies in the matrix, and no other task has an element of it.
        let own = unsafe { dst.part(rows.clone(), columns.clone()) };
        multiply_part(own, lhs.part(rows, 0..lhs.cols), rhs.part(0..rhs.rows, columns), scale, write);
    });
}

/// Tasks of a product, at most.
const TASKS: usize = 8;
/// Fewest multiplications of a task.
const MIN_TASK_FLOPS: usize = 1 << 21;
/// Rows or columns of a task are a multiple of this: whole tiles of each of the crate's kernels.
const UNIT: usize = 48;

/// A task's product, on the calling thread.
fn multiply_part(dst: MatMut<'_>, lhs: Mat<'_>, rhs: Mat<'_>, scale: f32, write: Write) {
    // SAFETY: every operand's extent was checked against its slice (or promised by `part`'s caller), the
    // shapes agree, and `dst` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        ::gemm::gemm(
            dst.rows,
            dst.cols,
            lhs.cols,
            dst.data,
            dst.col_stride as isize,
            dst.row_stride as isize,
            write == Write::Accumulate,
            lhs.data,
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data,
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            ::gemm::Parallelism::None,
        );
    }
}
