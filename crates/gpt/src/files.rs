//! Small files written whole: a reader sees the old one or the new one, never half of one.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

/// Makes a directory and its parents.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(failed(path))
}

/// Writes under a temporary name, syncs, and renames.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::io::Write;
    let temporary = path.with_extension("partial");
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(failed(path))
}

/// Reads a file whole.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(failed(path))
}

/// Writes a value as JSON.
pub(crate) fn write_json(path: &Path, what: &'static str, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value).map_err(|source| Error::Json { what, source })?;
    write_bytes(path, &text)
}

/// Reads a value from JSON.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T, Error> {
    let text = read_bytes(path)?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { what, source })
}

/// Writes named tensors as safetensors.
pub(crate) fn write_tensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), Error> {
    write_tensors_with(path, tensors, None)
}

/// Writes named tensors and a note about them into one safetensors file, so that both appear together.
pub(crate) fn write_tensors_with(
    path: &Path,
    tensors: &[(String, Tensor)],
    note: Option<String>,
) -> Result<(), Error> {
    let host = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), tensor.to_device(&Device::Cpu)?.contiguous()?)))
        .collect::<Result<Vec<_>, candle_core::Error>>()?;
    let note = note.map(|note| HashMap::from([(NOTE.to_owned(), note)]));
    let bytes = safetensors::tensor::serialize(host, note).map_err(|error| unreadable(path, &error))?;
    write_bytes(path, &bytes)
}

const NOTE: &str = "foretime";

fn unreadable(path: &Path, error: &impl ToString) -> Error {
    Error::Weights { name: path.display().to_string(), reason: error.to_string() }
}

/// Reads named tensors from safetensors.
pub(crate) fn read_tensors(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>, Error> {
    let bytes = read_bytes(path)?;
    candle_core::safetensors::load_buffer(&bytes, device).map_err(|error| unreadable(path, &error))
}

/// Reads named tensors and the note that was written with them.
pub(crate) fn read_tensors_with(
    path: &Path,
    device: &Device,
) -> Result<(HashMap<String, Tensor>, String), Error> {
    let bytes = read_bytes(path)?;
    let (_, header) =
        safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| unreadable(path, &error))?;
    let note = header.metadata().as_ref().and_then(|notes| notes.get(NOTE)).cloned();
    let note = note.ok_or_else(|| unreadable(path, &"it carries no note of ours"))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, device);
    Ok((tensors.map_err(|error| unreadable(path, &error))?, note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_as_they_were_written_and_leave_no_partial_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let tensor = Tensor::new(&[1.5f32, -2.0], &Device::Cpu).unwrap();
        write_tensors(&path, &[("w".into(), tensor.clone())]).unwrap();
        let read = read_tensors(&path, &Device::Cpu).unwrap();
        assert_eq!(read["w"].to_vec1::<f32>().unwrap(), tensor.to_vec1::<f32>().unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
