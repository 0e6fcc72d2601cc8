//! A buffer that parallel tasks write, each its own elements.

/// Start of a mutable buffer, sendable to tasks that write disjoint elements of it.
pub(crate) struct SharedMut<T> {
    data: *mut T,
    len: usize,
}

impl<T> Clone for SharedMut<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedMut<T> {}

// SAFETY: the pointer is only dereferenced through `offset` and `slice`, whose callers promise disjointness.
unsafe impl<T: Send> Send for SharedMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<T> {}

impl<T> SharedMut<T> {
    /// The start of `buffer`, which must outlive every use.
    pub(crate) fn new(buffer: &mut [T]) -> Self {
        Self { data: buffer.as_mut_ptr(), len: buffer.len() }
    }

    /// Address of element `index`.
    ///
    /// # Panics
    /// When elements `index..index + extent` are not all in the buffer.
    pub(crate) fn offset(self, index: usize, extent: usize) -> *mut T {
        assert!(index + extent <= self.len, "task writes {index}+{extent} of {}", self.len);
        // SAFETY: the offset was just checked to lie within the allocation.
        unsafe { self.data.add(index) }
    }

    /// Elements `index..index + len`.
    ///
    /// # Safety
    /// No other live reference covers any of them.
    pub(crate) unsafe fn slice<'a>(self, index: usize, len: usize) -> &'a mut [T] {
        // SAFETY: in bounds by `offset`'s check, unaliased by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.offset(index, len), len) }
    }
}
