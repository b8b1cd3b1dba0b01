//! Tensors in files, for checks from outside: ids in, logits out.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::{Batch, Error, Gpt, Kernels, LoraGpt, files};

/// A model of a directory, with a PEFT adapter merged into it if one is given.
///
/// # Errors
/// As [`Gpt::load`] and [`LoraGpt::load`].
pub fn model(directory: &Path, adapter: Option<&Path>, kernels: Kernels) -> Result<Gpt, Error> {
    let gpt = Gpt::load(directory, &Device::Cpu)?;
    let gpt = match adapter {
        Some(adapter) => LoraGpt::load(gpt, adapter)?.into_merged()?,
        None => gpt,
    };
    if gpt.kernels() == kernels {
        return Ok(gpt);
    }
    let chosen = Gpt::with_kernels(gpt.config().clone(), 0, &Device::Cpu, kernels)?;
    chosen.parameters().load(&gpt.parameters().snapshot()?.into_iter().collect())?;
    Ok(chosen)
}

/// Reads `ids` (or the only tensor) `[batch, time]` of whole numbers from a safetensors file, and writes `logits`
/// `[batch, time, vocabulary]` into another.
///
/// # Errors
/// [`Error::Weights`] if the ids are not of this form, [`Error::Token`] for one beyond the vocabulary, [`Error::Recipe`]
/// if they exceed the context, [`Error::File`] if a file cannot be read or written.
pub fn logits(gpt: &Gpt, ids: &Path, out: &Path) -> Result<(), Error> {
    let rows = read_ids(ids)?;
    let batch = Batch::new(rows.iter().map(Vec::as_slice))?;
    let logits = gpt.logits(&gpt.states(&batch)?)?; // [batch·time, vocabulary]
    let shape = (rows.len(), rows[0].len(), gpt.config().vocabulary);
    files::write_tensors(out, &[("logits".to_owned(), logits.reshape(shape)?)])
}

/// Reads `ids` (or the only tensor) `[batch, time]` of whole numbers from a safetensors file.
///
/// # Errors
/// [`Error::Weights`] if the ids are not of this form, [`Error::File`] if the file cannot be read.
pub fn read_ids(path: &Path) -> Result<Vec<Vec<u32>>, Error> {
    let tensors = files::read_tensors(path, &Device::Cpu)?;
    let only = (tensors.len() == 1).then(|| tensors.values().next()).flatten();
    let refuse = |reason: String| Error::Weights { name: "ids".into(), reason };
    let ids = tensors.get("ids").or(only).ok_or_else(|| refuse("they are missing".into()))?;
    if !matches!(ids.dtype(), DType::I64 | DType::I32 | DType::U32 | DType::U8) || ids.rank() != 2 {
        return Err(refuse(format!(
            "{:?} of {:?} instead of whole numbers [batch, time]",
            ids.dims(),
            ids.dtype()
        )));
    }
    let numbers = ids.to_dtype(DType::I64)?.to_vec2::<i64>()?;
    let id = |id: i64| u32::try_from(id).map_err(|_| refuse(format!("{id} is no token")));
    numbers.into_iter().map(|row| row.into_iter().map(id).collect()).collect()
}

/// Writes `ids`, `[1, time]`, for [`logits`] to read.
///
/// # Errors
/// [`Error::File`] if it cannot be written.
pub fn write_ids(ids: &[u32], path: &Path) -> Result<(), Error> {
    files::write_tensors(path, &[("ids".to_owned(), Tensor::from_slice(ids, (1, ids.len()), &Device::Cpu)?)])
}
