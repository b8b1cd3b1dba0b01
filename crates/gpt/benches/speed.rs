//! How fast a model trains and embeds here: `cargo bench -p gpt --bench speed -- [a|b|c] [train|recomputed|embed] [f32|bf16] [cuda:0]`.
//!
//! A line for each combination of what is named; all that are not named of a kind are taken. RAYON_NUM_THREADS
//! chooses the threads, GPT_BENCH_SECONDS how long each is measured. Peak memory is that of the process: for an honest
//! figure name one of each. A GPU is measured if it is named, in f32, and the peak is that of the processor's memory.

use std::time::Duration;

use gpt::Kernels;
use gpt::measure::{Preset, Work, measure};

const PRESETS: [(&str, Preset); 3] = [("a", Preset::A), ("b", Preset::B), ("c", Preset::C)];
const WORK: [(&str, Work); 3] =
    [("train", Work::Train), ("recomputed", Work::TrainRecomputed), ("embed", Work::Embed)];
const PRECISIONS: [(&str, Kernels); 2] = [("f32", Kernels::Fused), ("bf16", Kernels::FusedBf16)];

/// The named choices, or all if none is named.
fn chosen<T: Copy>(all: &[(&'static str, T)], named: &[String]) -> Vec<(&'static str, T)> {
    let some: Vec<_> = all.iter().filter(|(name, _)| named.iter().any(|n| n == name)).copied().collect();
    if some.is_empty() { all.to_vec() } else { some }
}

fn main() {
    let mut named: Vec<String> = std::env::args().skip(1).collect();
    let device = named.iter().position(|name| name.starts_with("cuda:")).map(|at| named.remove(at));
    let device = gpt::device::open(device.as_deref().unwrap_or("cpu")).expect("the device that is named");
    let seconds = std::env::var("GPT_BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs_f64(seconds.unwrap_or(5.0));
    let precisions = if device.is_cpu() { chosen(&PRECISIONS, &named) } else { PRECISIONS[..1].to_vec() };
    for (size, preset) in chosen(&PRESETS, &named) {
        for (job, work) in chosen(&WORK, &named) {
            for (precision, kernels) in precisions.iter().copied() {
                let seen = measure(&preset.config(), (kernels, work), preset.sequences(), time, &device);
                let seen = seen.expect("the presets fit");
                let seen = serde_json::to_string(&seen).expect("numbers are written");
                println!("{size} {job} {precision} {seen}");
            }
        }
    }
}
