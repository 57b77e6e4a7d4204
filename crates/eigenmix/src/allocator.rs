//! Configures the C library's allocator to keep freed memory.

/// Keeps large allocations in the process. By default glibc gives every temporary tensor back to
/// the kernel, and the page faults of getting it again cost up to a quarter of a training step.
pub(crate) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The largest threshold that glibc accepts on 64 bits.
        const LARGEST_MMAP_THRESHOLD: i32 = 32 << 20;
        // SAFETY: mallopt only sets parameters of the allocator, and no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        }
    }
}
