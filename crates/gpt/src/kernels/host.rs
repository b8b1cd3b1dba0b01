//! Tensors as slices in memory: what every fused kernel reads and writes.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;

use super::simd::{add_scaled, vectorised};

/// Rows that one task sums before the partial sums are added: fixed, so that sums do not depend on the thread count.
pub(crate) const ROWS_PER_SUM: usize = 256;

/// Elements that one task of an elementwise kernel handles.
pub(crate) const ELEMENTS_PER_TASK: usize = 16_384;

/// A contiguous f32 operand of a kernel.
pub(crate) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a fused kernel needs contiguous operands"),
    }
}

/// The elements of a contiguous tensor on the CPU, which cannot change while they are held.
pub(crate) struct Held<'a> {
    storage: Box<dyn Deref<Target = Storage> + Sync + 'a>,
    range: Range<usize>,
}

impl<'a> Held<'a> {
    pub(crate) fn new(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("a fused kernel needs contiguous operands")
        };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) => Ok(Self { range: start..end, storage: Box::new(storage) }),
            _ => bail!("fused kernels compute in f32 on the CPU"),
        }
    }
}

impl Deref for Held<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &**self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => unreachable!("`new` refuses other storage"),
        }
    }
}

/// Calls `f` with the elements of a tensor on the CPU.
pub(crate) fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(floats(storage, layout)?)),
        _ => bail!("fused kernels run on the CPU"),
    }
}

/// Calls `f` with the elements of two tensors on the CPU.
pub(crate) fn read2<R>(a: &Tensor, b: &Tensor, f: impl FnOnce(&[f32], &[f32]) -> R) -> Result<R> {
    read(a, |a| read(b, |b| f(a, b)))?
}

/// Adds vectors of `width` numbers, in order.
pub(crate) fn add_up(parts: Vec<Vec<f32>>, width: usize) -> Vec<f32> {
    parts.into_iter().fold(vec![0f32; width], |mut total, part| {
        add_scaled(&mut total, 1.0, &part);
        total
    })
}

vectorised! {
    fn add_rows(rows: &[f32], total: &mut [f32]) {
        for row in rows.chunks_exact(total.len()) {
            add_scaled(total, 1.0, row);
        }
    }
}

/// Σ over rows of a matrix `[rows, width]` → `[width]`.
pub(crate) fn column_sums(matrix: &[f32], width: usize) -> Vec<f32> {
    let parts = matrix
        .par_chunks(ROWS_PER_SUM * width)
        .map(|rows| {
            let mut total = vec![0f32; width];
            add_rows(rows, &mut total);
            total
        })
        .collect();
    add_up(parts, width)
}
