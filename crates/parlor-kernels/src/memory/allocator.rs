//! Returning freed memory to the system, which an allocator otherwise keeps: after data is prepared, before a model's
//! weights take its place.

/// Returns free heap memory to the system. Does nothing where the allocator is not glibc's.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call takes no pointer and touches only memory that is not allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}
