//! What reading together can gain: histories of 512 tokens through a GPT of 4 blocks of 128, alone and in batches.
//!
//! `cargo bench -p gpt --bench batching`. RAYON_NUM_THREADS chooses the threads. The rate at 16 over that at 1 bounds what
//! batching in front of this model can gain; `graph` is the way of training, packed anew each time.

use std::time::{Duration, Instant};

use gpt::layers::Noise;
use gpt::{Batch, Device, Gpt, GptConfig};

const CONTEXT: usize = 512;

/// Rows a second.
fn rate(rows: usize, read: impl Fn(&Batch)) -> f64 {
    let drawn: Vec<Vec<u32>> =
        (0..rows).map(|row| (0..CONTEXT).map(|at| ((at * 31 + row * 7) % 900) as u32).collect()).collect();
    let batch = Batch::new(drawn.iter().map(Vec::as_slice)).expect("no sequence is empty");
    (0..3).for_each(|_| read(&batch));
    let (started, mut seconds) = (Instant::now(), Vec::new());
    while started.elapsed() < Duration::from_secs(2) {
        let one = Instant::now();
        read(&batch);
        seconds.push(one.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    rows as f64 / seconds[seconds.len() / 2]
}

fn main() {
    let config = GptConfig {
        vocabulary: 910,
        context: CONTEXT,
        width: 128,
        layers: 4,
        heads: 4,
        ..GptConfig::default()
    };
    let mut gpt = Gpt::new(config, 1, &Device::Cpu).expect("the sizes fit");
    for rows in [1, 16] {
        let graph = rate(rows, |batch| {
            gpt.pooled(batch, &mut Noise::off()).expect("the batch fits");
        });
        println!("graph   {rows:>2} rows {graph:>8.1} rows/s");
    }
    gpt.settle().expect("weights are packed");
    let mut alone = f64::NAN;
    for rows in [1, 2, 4, 8, 16] {
        let settled = rate(rows, |batch| {
            gpt.last_states(batch).expect("the batch fits");
        });
        alone = if rows == 1 { settled } else { alone };
        println!("settled {rows:>2} rows {settled:>8.1} rows/s {:>6.2} times one", settled / alone);
    }
}
