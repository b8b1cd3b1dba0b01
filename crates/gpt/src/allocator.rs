//! How the C allocator treats the large, short-lived blocks that tensors are.
//!
//! By default glibc maps every block above a threshold and unmaps it when freed, so each tensor costs page faults:
//! measured, 20–25 % of a training step. A process that keeps all that it ever freed, though, keeps its peak for good, and
//! serves and ingests with it. So freed memory is kept while somebody trains, and given back afterwards.

use std::sync::{Mutex, PoisonError};

/// How many [`KeptMemory`] live.
static HOLDERS: Mutex<usize> = Mutex::new(0);

/// While one lives, freed memory stays in the process instead of going back to the system after every operation. When the last
/// one goes, so does what is free. Does nothing off Linux with glibc.
#[derive(Debug)]
pub struct KeptMemory(());

impl KeptMemory {
    /// From now on.
    #[must_use = "freed memory is kept only as long as this lives"]
    pub fn hold() -> Self {
        let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        if *holders == 0 {
            keep();
        }
        *holders += 1;
        Self(())
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        *holders -= 1;
        if *holders == 0 {
            give_back();
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "mallopt and malloc_trim take numbers and touch no memory that is in use")]
mod glibc {
    use libc::c_int;

    const MIB: c_int = 1 << 20;

    fn set(options: [(c_int, c_int); 4]) {
        for (option, value) in options {
            // SAFETY: the options are documented constants, the values in their documented ranges, and glibc takes its own lock.
            unsafe { libc::mallopt(option, value) };
        }
    }

    pub(super) fn keep() {
        set([
            (libc::M_MMAP_MAX, 0),
            (libc::M_MMAP_THRESHOLD, 32 * MIB),
            (libc::M_TRIM_THRESHOLD, c_int::MAX),
            (libc::M_TOP_PAD, 256 * MIB),
        ]);
    }

    /// glibc's defaults, with the thresholds that it would have come to by itself.
    pub(super) fn give_back() {
        set([
            (libc::M_MMAP_MAX, 65_536),
            (libc::M_MMAP_THRESHOLD, 32 * MIB),
            (libc::M_TRIM_THRESHOLD, 64 * MIB),
            (libc::M_TOP_PAD, 128 << 10),
        ]);
        // SAFETY: as above; it only returns free pages.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use glibc::{give_back, keep};

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep() {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}
