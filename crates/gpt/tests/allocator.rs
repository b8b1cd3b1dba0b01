//! Freed memory is the system's again once nobody trains, and a process that serves does not keep what its threads once needed.
//! A process of its own, and one test in it: resident memory is everybody's.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use gpt::allocator::{KeptMemory, be_frugal, give_back};

fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

/// Blocks that a merge or a join holds: 30 MiB of them.
fn blocks(bytes: usize) -> Vec<Vec<u8>> {
    (0..(30 << 20) / bytes).map(|_| vec![1; bytes]).collect()
}

/// Takes and frees such blocks on eight threads of their own at once; each leaves something small of its last ones behind.
fn bursts() -> Vec<Vec<u8>> {
    let together = std::sync::Barrier::new(8);
    let burst = || {
        let (small, large, last) = (blocks(3_000), blocks(700_000), vec![1; 100]);
        together.wait(); // all hold theirs: nobody takes the arena of another
        drop((small, large));
        together.wait();
        last
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(burst)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn freed_memory_is_kept_while_it_is_held_and_given_back_after() {
    let before = resident_mib();
    let (outer, inner) = (KeptMemory::hold(), KeptMemory::hold());
    let blocks: Vec<Vec<u8>> = (0..40).map(|_| vec![1; 16 << 20]).collect();
    drop(blocks);
    drop(inner);
    give_back();
    assert!(resident_mib() > before + 400, "freed memory went although somebody holds it");
    drop(outer);
    assert!(resident_mib() < before + 30, "freed memory stayed although nobody holds it");

    be_frugal();
    let mut left = Vec::new();
    for round in 1..=5 {
        left.push(bursts());
        give_back();
        let now = resident_mib();
        assert!(now < before + 60, "{now} MiB after round {round}, {before} before");
    }
}
