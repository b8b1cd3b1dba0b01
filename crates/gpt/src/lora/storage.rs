//! Adapters as PEFT keeps them: `adapter_config.json` and `adapter_model.safetensors`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LoraConfig, LoraGpt};
use crate::{Error, Gpt, files};

const WHAT: &str = "a LoRA adapter's config";

/// The keys of PEFT's config that change what an adapter computes; the others are left alone.
#[derive(Serialize, Deserialize)]
struct StoredConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: Vec<String>,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    inference_mode: bool,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    rank_pattern: serde_json::Map<String, Value>,
    #[serde(default)]
    alpha_pattern: serde_json::Map<String, Value>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    layers_to_transform: Option<Value>,
}

fn none() -> String {
    "none".into()
}

impl StoredConfig {
    fn of(config: &LoraConfig) -> Self {
        Self {
            peft_type: "LORA".into(),
            r: config.rank,
            lora_alpha: config.alpha,
            use_rslora: config.rank_stabilised,
            use_dora: false,
            lora_dropout: config.dropout,
            target_modules: config.targets.clone(),
            bias: none(),
            fan_in_fan_out: true,
            inference_mode: true,
            task_type: Some("CAUSAL_LM".into()),
            base_model_name_or_path: None,
            rank_pattern: serde_json::Map::new(),
            alpha_pattern: serde_json::Map::new(),
            modules_to_save: None,
            layers_to_transform: None,
        }
    }

    /// Refuses what would compute something else than a plain LoRA.
    fn config(self) -> Result<LoraConfig, Error> {
        let odd = [
            (self.peft_type != "LORA", "peft_type"),
            (self.use_dora, "use_dora"),
            (self.bias != "none", "bias"),
            (!self.rank_pattern.is_empty(), "rank_pattern"),
            (!self.alpha_pattern.is_empty(), "alpha_pattern"),
            (self.modules_to_save.is_some_and(|modules| !modules.is_empty()), "modules_to_save"),
            (self.layers_to_transform.is_some(), "layers_to_transform"),
        ];
        if let Some((_, key)) = odd.iter().find(|(odd, _)| *odd) {
            return Err(Error::Recipe { reason: format!("an adapter with this `{key}` is not known") });
        }
        Ok(LoraConfig {
            rank: self.r,
            alpha: self.lora_alpha,
            rank_stabilised: self.use_rslora,
            dropout: self.lora_dropout,
            targets: self.target_modules,
        })
    }
}

impl LoraGpt {
    /// Writes the adapters, not the model, into a directory.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), Error> {
        files::make_directory(directory)?;
        let weights = self.parameters.snapshot()?;
        files::write_tensors(&directory.join("adapter_model.safetensors"), &weights)?;
        files::write_json(&directory.join("adapter_config.json"), WHAT, &StoredConfig::of(&self.config))
    }

    /// Puts the adapters of a directory, written here or by PEFT, onto a model.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Json`], [`Error::Recipe`] or [`Error::Weights`], as it is unreadable or unfit.
    pub fn load(gpt: Gpt, directory: &Path) -> Result<Self, Error> {
        let stored: StoredConfig = files::read_json(&directory.join("adapter_config.json"), WHAT)?;
        let device = gpt.parameters().device().clone();
        let tensors = files::read_tensors(&directory.join("adapter_model.safetensors"), &device)?;
        let config = stored.config()?;
        let fits = |tensor: &candle_core::Tensor| tensor.dims().contains(&config.rank);
        if let Some((name, tensor)) = tensors.iter().find(|(_, tensor)| !fits(tensor)) {
            let reason = format!("shape {:?} has no dimension of the rank {}", tensor.dims(), config.rank);
            return Err(Error::Weights { name: name.clone(), reason });
        }
        let adapted = Self::new(gpt, config, 0)?;
        adapted.parameters.load(&tensors)?;
        if let Some(name) = tensors.keys().find(|name| adapted.parameters.get(name).is_err()) {
            let reason = "no layer of the model takes them".to_owned();
            return Err(Error::Weights { name: name.clone(), reason });
        }
        Ok(adapted)
    }
}
