//! A joint fusion as a directory: `fusion.json`, `network.safetensors`, and `backbone/` if it has one.

use std::path::Path;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::network::Network;
use super::{Backbone, CurvePoint, FusionRecipe, JointFusion};
use crate::error::check_format;
use crate::{Error, EventTokenizer, Gpt, TabularEncoder, files};

const FORMAT: u32 = 1;
const WHAT: &str = "a joint fusion";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    recipe: FusionRecipe,
    encoder: String,
    tokenizer: Option<String>,
    curve: Vec<CurvePoint>,
}

#[derive(Deserialize)]
struct Numbered {
    format: u32,
}

impl JointFusion {
    /// Writes the model into a directory. `fusion.json` comes last, so a directory with it is complete.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), Error> {
        files::make_directory(directory)?;
        if let Some(backbone) = &self.backbone {
            backbone.gpt.save(&directory.join("backbone"))?;
        }
        let weights = self.network.parameters().snapshot()?;
        files::write_tensors(&directory.join("network.safetensors"), &weights)?;
        let tokenizer = self.backbone.as_ref().map(|backbone| backbone.tokenizer.to_json()).transpose()?;
        let stored = Stored {
            format: FORMAT,
            recipe: self.recipe.clone(),
            encoder: self.encoder.to_json()?,
            tokenizer,
            curve: self.curve.clone(),
        };
        files::write_json(&directory.join("fusion.json"), WHAT, &stored)
    }

    /// Reads what [`JointFusion::save`] wrote.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Json`], [`Error::Format`] or [`Error::Weights`], as it is unreadable or unfit.
    pub fn load(directory: &Path, device: &Device) -> Result<Self, Error> {
        let path = directory.join("fusion.json");
        check_format(WHAT, files::read_json::<Numbered>(&path, WHAT)?.format, FORMAT)?;
        let stored: Stored = files::read_json(&path, WHAT)?;
        let encoder = TabularEncoder::from_json(&stored.encoder)?;
        let backbone = match stored.tokenizer {
            None => None,
            Some(tokenizer) => {
                let mut gpt = Gpt::load(&directory.join("backbone"), device)?;
                gpt.settle()?;
                Some(Backbone { gpt, tokenizer: EventTokenizer::from_json(&tokenizer)? })
            }
        };
        let history_width = backbone.as_ref().map(|backbone| backbone.gpt.config().width);
        let network = Network::new(&stored.recipe, &encoder, history_width, device)?;
        network.parameters().load(&files::read_tensors(&directory.join("network.safetensors"), device)?)?;
        let (recipe, curve, device) = (stored.recipe, stored.curve, device.clone());
        Ok(Self { recipe, encoder, backbone, network, curve, device })
    }
}
