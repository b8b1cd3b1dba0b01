//! How the C allocator treats the large, short-lived blocks that tensors are.
//!
//! By default glibc maps every block above a threshold and unmaps it when freed, so each tensor costs page faults:
//! measured, 20–25 % of a training step.

/// Keeps freed tensor memory in the process instead of giving it back to the system after every operation.
///
/// Process-wide, so a program decides it once, in `main`, before it trains; returns whether the allocator agreed. The
/// price is that the process keeps its peak memory. Does nothing (and returns `false`) off Linux with glibc.
pub fn keep_freed_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const KEEP: libc::c_int = 256 << 20;
        #[expect(unsafe_code, reason = "mallopt only sets allocator options; no memory is touched")]
        // SAFETY: the parameters are documented constants and the values are in their documented ranges.
        let agreed = unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0) == 1
                && libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX) == 1
                && libc::mallopt(libc::M_TOP_PAD, KEEP) == 1
        };
        agreed
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}
