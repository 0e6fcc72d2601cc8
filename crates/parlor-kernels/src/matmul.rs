//! Strided f32 matrix product: the `gemm` crate behind bounds that are checked once.

use std::marker::PhantomData;

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

/// A strided matrix for writing. Two of them may interleave in memory as long as no element is shared.
pub(crate) struct MatMut<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

/// Elements from the first to one past the last of a strided matrix.
fn extent(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + (cols - 1) * col_stride + 1 }
}

impl<'a> Mat<'a> {
    /// `rows x cols` of `data`, rows `row_stride` apart, columns adjacent.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(extent(rows, cols, row_stride, 1) <= data.len(), "matrix {rows}x{cols} exceeds its slice");
        Self { data: data.as_ptr(), rows, cols, row_stride, col_stride: 1, borrow: PhantomData }
    }

    /// The same elements, rows and columns exchanged.
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

    /// A matrix at `data`, for tasks that write disjoint columns of one buffer.
    ///
    /// # Safety
    /// Every element lies in one allocation valid for writes during `'a`, and no other thread reads or writes
    /// an element of it meanwhile.
    pub(crate) unsafe fn from_raw(data: *mut f32, rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { data, rows, cols, row_stride, col_stride: 1, borrow: PhantomData }
    }
}

/// What an operation does with what its destination already holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Forget it.
    Replace,
    /// Add to it.
    Accumulate,
}

/// Who computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// The calling thread: inside a parallel task.
    Caller,
    /// The pool.
    Pool,
}

/// `dst = scale * lhs * rhs`, or `dst += ...`.
pub(crate) fn matmul(dst: MatMut<'_>, lhs: Mat<'_>, rhs: Mat<'_>, scale: f32, write: Write, on: On) {
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
    let parallelism = match on {
        On::Caller => gemm::Parallelism::None,
        On::Pool => match crate::threads::count() {
            1 => gemm::Parallelism::None,
            n => gemm::Parallelism::Rayon(n),
        },
    };
    // SAFETY: every operand's extent was checked against its slice (or promised by `from_raw`'s caller), the
    // shapes agree, and `dst` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
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
            parallelism,
        );
    }
}
