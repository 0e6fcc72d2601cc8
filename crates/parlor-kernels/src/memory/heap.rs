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
