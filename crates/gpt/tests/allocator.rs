//! Freed memory is the system's again once nobody trains. A process of its own: resident memory is everybody's in it.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use gpt::allocator::KeptMemory;

fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[test]
fn freed_memory_is_kept_while_it_is_held_and_given_back_after() {
    let before = resident_mib();
    let (outer, inner) = (KeptMemory::hold(), KeptMemory::hold());
    let blocks: Vec<Vec<u8>> = (0..40).map(|_| vec![1; 16 << 20]).collect();
    drop(blocks);
    drop(inner);
    assert!(resident_mib() > before + 400, "freed memory went although somebody holds it");
    drop(outer);
    assert!(resident_mib() < before + 200, "freed memory stayed although nobody holds it");
}
