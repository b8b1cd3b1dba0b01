//! How well a plan foretells what training takes: `cargo bench -p gpt --bench plan -- [a|b|c] [f32|bf16]`.
//!
//! For each size a plan from a 2-second measurement stands beside a training process of its own: its time a token, and the
//! memory at its peak. GPT_BENCH_SECONDS chooses how long is trained.

use std::process::Command;
use std::time::Duration;

use candle_core::Device;
use gpt::Kernels;
use gpt::measure::{Plan, Preset, Work, measure};
use serde_json::Value;

const PRESETS: [(&str, Preset); 3] = [("a", Preset::A), ("b", Preset::B), ("c", Preset::C)];
const PRECISIONS: [(&str, Kernels); 2] = [("f32", Kernels::Fused), ("bf16", Kernels::FusedBf16)];

/// Tokens of the planned run.
const TOKENS: u64 = 1_000_000;

fn seconds() -> Duration {
    let asked = std::env::var("GPT_BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(asked.unwrap_or(8.0))
}

/// Trains, and prints what it took.
fn train(preset: Preset, kernels: Kernels) {
    let seen = measure(&preset.config(), (kernels, Work::Train), preset.sequences(), seconds(), &Device::Cpu);
    println!("{}", serde_json::to_string(&seen.expect("the presets fit")).expect("numbers are written"));
}

/// What another process took to train: seconds a token, and bytes at its peak.
fn trained(size: &str, precision: &str) -> (f64, f64) {
    let program = std::env::current_exe().expect("a running program has a path");
    let output = Command::new(program).args(["--train", size, precision]).output().expect("it starts again");
    let seen: Value = serde_json::from_slice(&output.stdout).expect("it prints what it took");
    let number = |name: &str| seen[name].as_f64().unwrap_or(f64::NAN);
    (1.0 / number("tokens_per_second"), number("peak_memory_bytes"))
}

fn main() {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let chosen = |name: &str, kinds: &[&str]| {
        named.iter().any(|n| n == name) || !named.iter().any(|n| kinds.contains(&n.as_str()))
    };
    let child = named.first().is_some_and(|first| first == "--train");
    if !child {
        println!(
            "| size | seconds planned | took | off by | MB planned | peak | off by |\n|---|---|---|---|---|---|---|"
        );
    }
    for (size, preset) in PRESETS.into_iter().filter(|(size, _)| chosen(size, &["a", "b", "c"])) {
        for (precision, kernels) in PRECISIONS.into_iter().filter(|(name, _)| chosen(name, &["f32", "bf16"]))
        {
            if child {
                return train(preset, kernels);
            }
            let time = Duration::from_secs(2);
            let plan = Plan::new(&preset.config(), preset.sequences(), TOKENS, kernels, time);
            let plan = plan.expect("the presets fit");
            let (a_token, peak) = trained(size, precision);
            let (took, planned) = (a_token * TOKENS as f64, plan.memory_bytes() as f64);
            println!(
                "| {size} {precision} | {:.0} | {took:.0} | {:+.0} % | {:.0} | {:.0} | {:+.0} % |",
                plan.seconds,
                100.0 * (plan.seconds / took - 1.0),
                planned / 1e6,
                peak / 1e6,
                100.0 * (planned / peak - 1.0),
            );
        }
    }
}
