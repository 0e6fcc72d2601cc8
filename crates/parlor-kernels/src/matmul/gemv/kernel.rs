//! What gemv needs of an instruction set: the dot products of some weight rows with up to [`MAX_ROWS`] input
//! rows.

use crate::memory::View;

/// Input rows whose sums fit into registers together.
pub(crate) const MAX_ROWS: usize = 8;
/// Weight rows that are multiplied together, so that each input is loaded once for all of them.
pub(super) const WEIGHT_ROWS: usize = 3;

/// Length and stride of weight rows, in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightRows {
    pub(crate) len: usize,
    pub(crate) stride: usize,
}

/// The dot products of some weight rows with some rows of `x`, in `out` by weight row.
type DotProducts = unsafe fn(x: &[f32], weight: View<'_>, rows: WeightRows, out: &mut [f32]);

/// A gemv kernel whose instruction set this machine has.
#[derive(Clone, Copy)]
pub(crate) struct GemvKernel {
    name: &'static str,
    dots: DotProducts,
}

impl GemvKernel {
    /// # Safety
    /// The instruction set of `dots` is there.
    pub(crate) const unsafe fn new(name: &'static str, dots: DotProducts) -> Self {
        Self { name, dots }
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    /// The dot products of up to [`MAX_ROWS`] rows of `x` with rows of `weight`, which are not quantized, as
    /// many as `out`, `[weight rows, rows of x]`, has room for.
    pub(crate) fn dots(self, x: &[f32], weight: View<'_>, rows: WeightRows, out: &mut [f32]) {
        // SAFETY: the instruction set is there, as the constructor's caller promised.
        unsafe { (self.dots)(x, weight, rows, out) }
    }
}
