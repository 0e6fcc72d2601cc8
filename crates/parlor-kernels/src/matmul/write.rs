//! What an operation does with the old content of its destination.

/// What an operation does with the old content of its destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Overwrites it.
    Replace,
    /// Adds to it.
    Accumulate,
}

impl Write {
    /// The addend of sums that go to `to`: `to` itself, or null.
    pub(crate) fn addend(self, to: *const f32) -> *const f32 {
        if self == Write::Accumulate { to } else { std::ptr::null() }
    }
}
