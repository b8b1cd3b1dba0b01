//! LoRA: a frozen GPT whose linear layers carry small trainable changes, in files that PEFT reads and writes.

mod storage;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::layers::{LowRank, Parameters};
use crate::{Error, Gpt};

/// Which layers are adapted, and how much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// The rank of each change.
    pub rank: usize,
    /// α: the change is multiplied by α / rank.
    pub alpha: f64,
    /// Multiply by α / √rank instead.
    pub rank_stabilised: bool,
    /// Share of a layer's inputs that its change does not see in a training step.
    pub dropout: f64,
    /// The ends of the names of the adapted layers, such as `c_attn` or `attn.c_proj`.
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        let targets = vec!["c_attn".into(), "c_proj".into()];
        Self { rank: 8, alpha: 16.0, rank_stabilised: false, dropout: 0.0, targets }
    }
}

impl LoraConfig {
    fn check(&self) -> Result<(), Error> {
        if self.rank == 0 || !self.alpha.is_finite() || !(0.0..1.0).contains(&self.dropout) {
            let reason =
                "a LoRA has a rank of at least 1, a finite alpha, and a dropout from 0 to below 1".into();
            return Err(Error::Recipe { reason });
        }
        Ok(())
    }

    fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }

    fn wants(&self, layer: &str) -> bool {
        self.targets.iter().any(|target| {
            layer.strip_suffix(target.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

/// A frozen GPT with its adapters; only the adapters are [`LoraGpt::parameters`].
#[derive(Debug)]
pub struct LoraGpt {
    gpt: Gpt,
    config: LoraConfig,
    parameters: Parameters,
    adapters: Vec<(String, LowRank)>,
    before_merge: Option<Vec<(String, Tensor)>>,
}

impl LoraGpt {
    /// Adapters that change nothing yet: A from U(−1/√in, 1/√in), B = 0.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the rank is 0 or no layer has a target's name.
    pub fn new(mut gpt: Gpt, config: LoraConfig, seed: u64) -> Result<Self, Error> {
        config.check()?;
        gpt.freeze();
        let device = gpt.parameters().device().clone();
        let mut parameters = Parameters::new(&device, seed);
        let (rank, scale, mut adapters) = (config.rank, config.scale(), Vec::new());
        for (name, linear) in gpt.linears_mut().filter(|(name, _)| config.wants(name)) {
            let (inputs, outputs) = linear.sizes()?;
            let key = |part: &str| format!("base_model.model.{name}.{part}.weight");
            let bound = 1.0 / (inputs as f64).sqrt();
            let down = parameters.uniform(&key("lora_A"), (rank, inputs), bound)?;
            let up = parameters.constant(&key("lora_B"), (outputs, rank), 0.0)?;
            let adapter = LowRank { down, up, scale, dropout: config.dropout };
            linear.adapt(Some(adapter.clone()));
            adapters.push((name, adapter));
        }
        if adapters.is_empty() {
            let reason = format!("no layer has a name that ends in one of {:?}", config.targets);
            return Err(Error::Recipe { reason });
        }
        Ok(Self { gpt, config, parameters, adapters, before_merge: None })
    }

    /// The model, adapters included.
    pub fn gpt(&self) -> &Gpt {
        &self.gpt
    }

    /// As [`Gpt::settle`], adapters included.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn settle(&mut self) -> Result<(), Error> {
        self.gpt.settle()
    }

    /// Which layers are adapted, and how much.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The trainable numbers: A and B of each adapter, under PEFT's names.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Whether the changes are now in the weights themselves.
    pub fn is_merged(&self) -> bool {
        self.before_merge.is_some()
    }

    /// Adds each change to its weights, so that a forward pass costs nothing more. Merging twice merges once.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn merge(&mut self) -> Result<(), Error> {
        if self.is_merged() {
            return Ok(());
        }
        let mut before = Vec::with_capacity(self.adapters.len());
        for (name, adapter) in &self.adapters {
            let key = format!("{name}.weight");
            let var = self.gpt.parameters().get(&key)?;
            let weight = var.as_detached_tensor().copy()?;
            var.set(&(&weight + adapter.change()?.detach())?)?;
            before.push((key, weight));
        }
        self.before_merge = Some(before);
        self.carry(false);
        Ok(())
    }

    /// Takes the changes out of the weights again: they are bit for bit what they were.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn unmerge(&mut self) -> Result<(), Error> {
        for (key, weight) in self.before_merge.take().unwrap_or_default() {
            self.gpt.parameters().get(&key)?.set(&weight)?;
        }
        self.carry(true);
        Ok(())
    }

    /// One plain, trainable GPT with the changes in its weights.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn into_merged(mut self) -> Result<Gpt, Error> {
        self.merge()?;
        let (config, kernels) = (self.gpt.config().clone(), self.gpt.kernels());
        let device: Device = self.parameters.device().clone();
        let plain = Gpt::with_kernels(config, 0, &device, kernels)?;
        plain.parameters().load(&self.gpt.parameters().snapshot()?.into_iter().collect())?;
        Ok(plain)
    }

    /// Lets the layers add their changes in the forward pass, or not.
    fn carry(&mut self, carried: bool) {
        let adapters = &self.adapters;
        for (name, linear) in self.gpt.linears_mut() {
            if let Some((_, adapter)) = adapters.iter().find(|(adapted, _)| *adapted == name) {
                linear.adapt(carried.then(|| adapter.clone()));
            }
        }
    }
}
