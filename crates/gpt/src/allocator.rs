//! How the C allocator treats blocks that come and go.
//!
//! By default glibc maps every block above a threshold and unmaps it when freed, so each tensor costs page faults:
//! measured, 20–25 % of a training step. A process that keeps all that it ever freed, though, keeps its peak for good, and
//! serves and ingests with it. So freed memory is kept while somebody trains, and given back afterwards.
//!
//! Left to itself, glibc lets that threshold grow to 32 MiB with the blocks that it sees, and from then on keeps up to 64 MiB at
//! the end of each arena, of which there are eight a core: measured, a process that served with 5 MiB in use held 45 MiB, each
//! merge and each training on another thread added some, and trimming does not reach the ends of other arenas than the first.
//! [`be_frugal`] holds the thresholds where they are worth it, and [`give_back`] returns what lies between blocks in use.

use std::sync::{Mutex, PoisonError};

/// How many [`KeptMemory`] live.
static HOLDERS: Mutex<usize> = Mutex::new(0);

/// From now on large blocks are the system's as soon as they are freed, and an arena keeps no more than about a MiB at its end:
/// for processes that run for long. Does nothing off Linux with glibc.
pub fn be_frugal() {
    let holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    if *holders == 0 {
        frugal();
    }
}

/// Gives what is free between blocks in use back to the system, unless somebody trains. Does nothing off Linux with glibc.
pub fn give_back() {
    let holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    if *holders == 0 {
        trim();
    }
}

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
            frugal();
            shorten_arena();
            rayon::spawn_broadcast(|_| shorten_arena()); // who worked on the tensors
            trim();
        }
    }
}

/// A freed block of this size makes glibc look at the end of the calling thread's arena.
const LOOKED_AT_BYTES: usize = 128 << 10;

/// Gives back what the calling thread's arena keeps at its end: trimming reaches only that of the first arena.
fn shorten_arena() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LOOKED_AT_BYTES)));
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

    pub(super) fn frugal() {
        set([
            (libc::M_MMAP_MAX, 65_536),
            (libc::M_MMAP_THRESHOLD, MIB),
            (libc::M_TRIM_THRESHOLD, MIB),
            (libc::M_TOP_PAD, 128 << 10),
        ]);
    }

    pub(super) fn trim() {
        // SAFETY: as above; it only returns free pages.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use glibc::{frugal, keep, trim};

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep() {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn frugal() {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
