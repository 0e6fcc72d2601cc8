//! Giving freed memory back to the system, which allocators keep for later: after preparing data, before a model's weights
//! take their place.

/// Gives back what is free. Does nothing where the allocator has no such call (it is glibc's).
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call takes no pointer and touches only memory that nobody holds.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Asks for huge pages beneath `values`, where the system has them and before they are written to: one look into the page
/// table then serves 2 MiB that are read in a row.
pub(crate) fn prefer_huge_pages<T>(values: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let range = values.as_mut_ptr_range();
        let (start, end) = ((range.start as usize).next_multiple_of(HUGE), range.end as usize / HUGE * HUGE);
        if start < end {
            // SAFETY: the whole pages lie in `values`, and this advice changes no content. One that is not taken costs
            // speed only.
            let _ = unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = values;
}
