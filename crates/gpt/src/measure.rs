//! How fast and how large a model is on this machine: throughput by running it, and a plan before anything runs.
//!
//! Belongs here: synthetic work, clocks and counts. Not here: how good a model is.

use std::time::{Duration, Instant};

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::allocator::KeptMemory;
use crate::generator::Generator;
use crate::layers::Noise;
use crate::model::TOKENS;
use crate::optimizer::{AdamW, AdamWConfig};
use crate::{Batch, Error, Gpt, GptConfig, Kernels, Positions};

/// What is repeated while the clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Forward, backward, clipping and AdamW.
    Train,
    /// Training that computes activations again on the way back.
    TrainRecomputed,
    /// The final hidden states of all tokens.
    Forward,
    /// The same, and the mean over each sequence: an embedding.
    Embed,
}

/// The sizes that are measured here and elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// 4 blocks of 128, vocabulary 1024, context 256, 16 sequences at a time.
    A,
    /// 6 blocks of 384, vocabulary 4096, context 512, 8 sequences.
    B,
    /// GPT-2: 12 blocks of 768, vocabulary 50257, context 512, 1 sequence.
    C,
}

impl Preset {
    /// The sizes of the model, with GPT-2's parts.
    pub fn config(self) -> GptConfig {
        let (layers, width, heads, context, vocabulary) = match self {
            Self::A => (4, 128, 4, 256, 1024),
            Self::B => (6, 384, 6, 512, 4096),
            Self::C => (12, 768, 12, 512, 50_257),
        };
        let positions = Positions::Learned;
        GptConfig { layers, width, heads, context, vocabulary, positions, ..GptConfig::default() }
    }

    /// Sequences at a time.
    pub fn sequences(self) -> usize {
        match self {
            Self::A => 16,
            Self::B => 8,
            Self::C => 1,
        }
    }
}

/// What a measurement saw.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// Trainable numbers.
    pub parameters: usize,
    /// Steps after the first, which only warms up.
    pub steps: usize,
    /// Tokens per step.
    pub tokens_per_step: usize,
    /// The median step.
    pub step_seconds: f64,
    /// Tokens a second, by the median step.
    pub tokens_per_second: f64,
    /// Tokens a second of processor time, of all threads together, where the system tells.
    pub tokens_per_cpu_second: Option<f64>,
    /// Floating-point operations of the model a second, by the median step.
    pub flops_per_second: f64,
    /// The most memory this process ever held, where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

/// Runs random sequences of full context through a new model for about so long; a GPU computes by the reference whatever
/// kernels are named.
///
/// # Errors
/// [`Error::Recipe`] if the sizes do not fit together.
pub fn measure(
    config: &GptConfig,
    (kernels, work): (Kernels, Work),
    sequences: usize,
    time: Duration,
    device: &Device,
) -> Result<Measurement, Error> {
    let _kept = KeptMemory::hold();
    let kernels = if device.is_cpu() { kernels } else { Kernels::Reference };
    let mut gpt = Gpt::with_kernels(config.clone(), 1, device, kernels)?;
    let mut optimizer = AdamW::new(AdamWConfig::default(), kernels);
    let forward = matches!(work, Work::Forward | Work::Embed);
    if forward {
        gpt.settle()?;
    } else {
        optimizer.add("", gpt.parameters().entries(), 1.0)?;
    }
    let batch = random_batch(config, sequences)?;
    let mut step = || -> Result<f64, Error> {
        let started = Instant::now();
        run(&gpt, &batch, work, &mut optimizer)?;
        device.synchronize()?; // a GPU is told what to do long before it has done it
        Ok(started.elapsed().as_secs_f64())
    };
    step()?;
    let (started, worked, mut seconds) = (Instant::now(), processor_seconds(), vec![step()?]);
    while started.elapsed() < time {
        seconds.push(step()?);
    }
    let worked = worked.zip(processor_seconds()).map(|(before, after)| after - before);
    seconds.sort_by(f64::total_cmp);
    let (median, tokens) = (seconds[seconds.len() / 2], batch.tokens());
    let all = (tokens * seconds.len()) as f64;
    let flops = config.flops_per_token() / if forward { 3.0 } else { 1.0 };
    Ok(Measurement {
        parameters: gpt.parameters().count(),
        steps: seconds.len(),
        tokens_per_step: tokens,
        step_seconds: median,
        tokens_per_second: tokens as f64 / median,
        tokens_per_cpu_second: worked.filter(|&worked| worked > 0.0).map(|worked| all / worked),
        flops_per_second: flops * tokens as f64 / median,
        peak_memory_bytes: peak_memory(),
    })
}

/// Chooses the number of threads of all later work in this process; possible once, before any.
///
/// # Errors
/// [`Error::Recipe`] if it is 0, or if work has already started.
pub fn use_threads(threads: usize) -> Result<(), Error> {
    if threads == 0 {
        return Err(Error::Recipe { reason: "at least 1 thread works".into() });
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().map_err(|error| Error::Recipe { reason: error.to_string() })
}

fn run(gpt: &Gpt, batch: &Batch, work: Work, optimizer: &mut AdamW) -> Result<(), Error> {
    let gradients = match work {
        Work::Forward => {
            gpt.states(batch)?;
            return Ok(());
        }
        Work::Embed => {
            let hidden = gpt.states(batch)?;
            hidden.reshape((batch.sequences(), gpt.config().context, gpt.config().width))?.mean(1)?;
            return Ok(());
        }
        Work::Train | Work::TrainRecomputed => {
            gpt.gradients(batch, &mut Noise::off(), 1.0, work == Work::TrainRecomputed)?.1
        }
    };
    optimizer.step(&gradients, 1e-4)?;
    Ok(())
}

fn random_batch(config: &GptConfig, sequences: usize) -> Result<Batch, Error> {
    let mut generator = Generator::new(9, 9);
    let mut sequence =
        || -> Vec<u32> { (0..config.context).map(|_| generator.below(config.vocabulary) as u32).collect() };
    let drawn: Vec<Vec<u32>> = (0..sequences).map(|_| sequence()).collect();
    Batch::new(drawn.iter().map(Vec::as_slice))
}

/// The most memory this process ever held, from `/proc/self/status`.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Processor seconds of all threads so far, in ticks of 1/100, from `/proc/self/stat` (see proc_pid_stat(5)).
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let ticks = |field: usize| after_name.split(' ').nth(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0) // utime and stime
}

impl GptConfig {
    /// The number of trainable numbers, without making them.
    pub fn parameters(&self) -> usize {
        let (width, inner) = (self.width, self.inner());
        let kv = 2 * self.key_value_heads() * self.head_width();
        let halves = if self.activation == crate::Activation::Swiglu { 2 } else { 1 };
        let norm = if self.norm == crate::NormKind::Layer { 2 * width } else { width };
        let attention = (width + 1) * (width + kv) + (width + 1) * width;
        let head_norms = if self.qk_norm { 2 * self.head_width() } else { 0 };
        let mlp = (width + 1) * halves * inner + (inner + 1) * width;
        let embeddings = if self.tied { 1 } else { 2 } * self.vocabulary * width;
        let places = if self.positions == Positions::Learned { self.context * width } else { 0 };
        embeddings + places + self.layers * (attention + head_norms + mlp + 2 * norm) + norm
    }

    /// Floating-point operations of one training step per token, at full context: 6·N + 6·layers·width·context, with N
    /// the parameters that multiply (looked-up ones do not; a tied head does).
    ///
    /// # Source
    /// Kaplan et al. (2020), "Scaling laws for neural language models", with half of the attention for causality.
    pub fn flops_per_token(&self) -> f64 {
        let places = if self.positions == Positions::Learned { self.context * self.width } else { 0 };
        let looked_up = if self.tied { 0 } else { self.vocabulary * self.width };
        let multiplied = self.parameters() - places - looked_up;
        6.0 * multiplied as f64 + 6.0 * (self.layers * self.width * self.context) as f64
    }
}

/// What a training run will take, before it runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Trainable numbers.
    pub parameters: usize,
    /// Floating-point operations per token and training step.
    pub flops_per_token: f64,
    /// Bytes of weights, the two moments of AdamW, and gradients of each run of parts that learns beside others; and of the
    /// blocks' matrices packed for both ways, if a batch has several parts: 8·layers·width·(4·width + 2·inside of the MLP).
    pub weights_bytes: usize,
    /// Bytes of the activations of one step, about, of the tokens that go through the layers at once:
    /// 4·tokens·layers·(6·width + the inside of the MLP), and what the way back through a layer needs;
    /// 4·tokens·layers·(14·width + 3 insides) for models that learn through candle's graph.
    pub activation_bytes: usize,
    /// The same if activations are computed again on the way back.
    pub recomputed_activation_bytes: usize,
    /// Tokens of the whole run.
    pub tokens: u64,
    /// Floating-point operations of the whole run.
    pub flops: f64,
    /// Floating-point operations a second that this machine does in such steps, by what was measured.
    pub measured_flops_per_second: f64,
    /// The predicted time of the whole run.
    pub seconds: f64,
}

/// At most so many distinct tokens while a plan measures: its models are made quickly.
const MEASURED_VOCABULARY: usize = 8_192;

/// What a process holds besides weights and activations: its program, threads and what a layer needs while it is computed.
const PROCESS_BYTES: usize = 24 << 20;

impl Plan {
    /// Bytes that the training process holds at its peak, about.
    pub fn memory_bytes(&self) -> usize {
        self.weights_bytes + self.activation_bytes + PROCESS_BYTES
    }

    /// Plans a run of so many tokens in steps of so many sequences, from a measurement of about `time` on models of the same
    /// width with one block and with two: what the second adds is a block's time, and the rest that of embedding, head
    /// and their optimizer, which grows with the vocabulary.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the sizes do not fit together.
    pub fn new(
        config: &GptConfig,
        sequences: usize,
        tokens: u64,
        kernels: Kernels,
        time: Duration,
    ) -> Result<Self, Error> {
        config.check()?;
        let vocabulary = config.vocabulary.min(MEASURED_VOCABULARY);
        let few = sequences.min(4096_usize.div_ceil(config.context));
        let step = |layers: usize| -> Result<f64, Error> {
            let short = GptConfig { layers, vocabulary, ..config.clone() };
            Ok(measure(&short, (kernels, Work::Train), few, time / 2, &Device::Cpu)?.step_seconds)
        };
        let (one, two) = (step(1)?, step(2)?);
        let block = (two - one).max(0.0);
        let rest = (one - block).max(0.0) * config.vocabulary as f64 / vocabulary as f64;
        let a_token = (rest + config.layers as f64 * block) / (few * config.context) as f64;
        let parameters = config.parameters();
        let flops = config.flops_per_token() * tokens as f64;
        let (weights_bytes, held) = held_bytes(config, sequences);
        Ok(Self {
            parameters,
            flops_per_token: config.flops_per_token(),
            weights_bytes,
            activation_bytes: config.layers * held.block + held.way_back,
            recomputed_activation_bytes: config.layers * held.stream + held.block + held.way_back,
            tokens,
            flops,
            measured_flops_per_second: config.flops_per_token() / a_token,
            seconds: a_token * tokens as f64,
        })
    }
}

/// Bytes of activations, of the tokens that go through the layers at once.
struct Held {
    /// What a block keeps for its way back.
    block: usize,
    /// The input of a block.
    stream: usize,
    /// What is there only while one block is on its way back.
    way_back: usize,
}

/// Bytes of what is learned with, and of activations, in steps of so many sequences.
fn held_bytes(config: &GptConfig, sequences: usize) -> (usize, Held) {
    let (whole, width, inner) = (sequences * config.context, config.width, config.inner());
    let held = |tokens: usize, block: usize, way_back: usize| {
        let [block, stream, way_back] = [block, width, way_back].map(|numbers| 4 * tokens * numbers);
        Held { block, stream, way_back }
    };
    if !config.steps_by_hand() {
        return (16 * config.parameters(), held(whole, 14 * width + 3 * inner, 0));
    }
    let part = TOKENS.max(config.context);
    let parts = whole.div_ceil(part);
    let lanes = config.lanes().min(parts);
    let packed = if parts > 1 { 8 * config.layers * width * (4 * width + 2 * inner) } else { 0 };
    let at_once = whole.min(lanes.min(rayon::current_num_threads()) * part);
    let weights = (12 + 4 * lanes) * config.parameters() + packed;
    (weights, held(at_once, 6 * width + inner, 3 * width + 2 * inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, NormKind};

    #[test]
    fn the_counted_parameters_are_those_of_the_model() {
        let plain = GptConfig { positions: Positions::Learned, ..GptConfig::default() };
        let other = GptConfig {
            positions: Positions::Rotary,
            norm: NormKind::Rms,
            activation: Activation::Swiglu,
            qk_norm: true,
            key_value_heads: Some(2),
            tied: false,
            ..GptConfig::default()
        };
        for config in [plain, other] {
            let gpt = Gpt::new(config.clone(), 0, &Device::Cpu).unwrap();
            assert_eq!(config.parameters(), gpt.parameters().count(), "{config:?}");
        }
    }

    #[test]
    fn gpt2_has_its_124_million_parameters() {
        let gpt2 = GptConfig {
            vocabulary: 50_257,
            context: 1024,
            width: 768,
            layers: 12,
            heads: 12,
            positions: Positions::Learned,
            ..GptConfig::default()
        };
        assert_eq!(gpt2.parameters(), 124_439_808);
    }

    #[test]
    fn a_plan_multiplies_what_was_measured_and_a_measurement_counts_its_tokens() {
        let config = GptConfig { width: 16, context: 8, ..GptConfig::default() };
        let plan = Plan::new(&config, 2, 1_000_000, Kernels::Fused, Duration::from_millis(20)).unwrap();
        assert_eq!(plan.weights_bytes, 16 * config.parameters());
        let expected = plan.flops_per_token * 1e6 / plan.measured_flops_per_second;
        assert!((plan.seconds / expected - 1.0).abs() < 1e-12);
        let seen =
            measure(&config, (Kernels::Fused, Work::Forward), 3, Duration::ZERO, &Device::Cpu).unwrap();
        assert_eq!((seen.tokens_per_step, seen.steps), (24, 1));
        assert!(seen.tokens_per_second > 0.0);
    }
}
