//! Matrix products in f32, with tiles for AVX-512, AVX2 and any processor, and in bf16 where the processor has it.
//!
//! One factor is packed once into panels of a tile's width; the rows of the result are shared out over the threads. Each
//! element is summed over k in order, in blocks of [`BLOCK`], so a result does not depend on the thread count, and is the
//! same to the bit with AVX-512 and AVX2.
//!
//! # Source
//! Goto & van de Geijn (2008), "Anatomy of high-performance matrix multiplication".

mod pack;
mod tile;

use std::sync::OnceLock;

use rayon::prelude::*;

use pack::Strips;
pub(super) use tile::Tile;

/// Depth of one pass over k: a panel of it fits the first-level cache.
const BLOCK: usize = 256;

/// The numbers that are multiplied; sums are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// 24 bits.
    F32,
    /// 8 bits, rounded to nearest even, where the processor multiplies them; f32 elsewhere.
    Bf16,
}

/// A matrix somewhere in memory: element (i, j) is `values[i·row + j·column]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a> View<'a> {
    /// A matrix stored row by row.
    ///
    /// # Panics
    /// If there are not `rows`·`columns` values.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows}×{columns}");
        Self { values, rows, columns, row: columns, column: 1 }
    }

    /// The same numbers, with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row: self.column, column: self.row, ..self }
    }
}

/// The right factor of a product, `[k, n]`, packed for the tile that this processor runs.
pub(crate) enum Packed {
    #[cfg(target_arch = "x86_64")]
    Wide(Panels<tile::Wide>),
    #[cfg(target_arch = "x86_64")]
    Narrow(Panels<tile::Narrow>),
    #[cfg(target_arch = "x86_64")]
    Brain(Panels<tile::Brain>),
    Plain(Panels<tile::Plain>),
}

/// What the processor can do, asked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Brain,
    #[cfg(target_arch = "x86_64")]
    Wide,
    #[cfg(target_arch = "x86_64")]
    Narrow,
    Plain,
}

impl Instructions {
    /// All that this processor has, the fastest first.
    pub(crate) fn available() -> &'static [Self] {
        static FOUND: OnceLock<Vec<Instructions>> = OnceLock::new();
        FOUND.get_or_init(|| {
            let mut found = Vec::new();
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::is_x86_feature_detected as has;
                if has!("avx512f") && has!("avx512bw") && has!("avx512bf16") {
                    found.push(Self::Brain);
                }
                if has!("avx512f") {
                    found.push(Self::Wide);
                }
                if has!("avx2") && has!("fma") {
                    found.push(Self::Narrow);
                }
            }
            found.push(Self::Plain);
            found
        })
    }

    /// The best for a precision.
    pub(crate) fn best(precision: Precision) -> Self {
        let fits = |choice: &&Self| precision == Precision::Bf16 || !choice.rounds();
        Self::available().iter().find(fits).copied().unwrap_or(Self::Plain)
    }

    /// Whether factors are rounded to bf16.
    pub(crate) fn rounds(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Self::Brain;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

impl Packed {
    /// Packs a factor `[k, n]`.
    pub(crate) fn new(b: View<'_>, precision: Precision) -> Self {
        Self::with(b, Instructions::best(precision))
    }

    pub(crate) fn with(b: View<'_>, instructions: Instructions) -> Self {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Brain => Self::Brain(Panels::new(b)),
            #[cfg(target_arch = "x86_64")]
            Instructions::Wide => Self::Wide(Panels::new(b)),
            #[cfg(target_arch = "x86_64")]
            Instructions::Narrow => Self::Narrow(Panels::new(b)),
            Instructions::Plain => Self::Plain(Panels::new(b)),
        }
    }

    /// out ← a·b, or out ← out + a·b if `add`: a `[m, k]`, out `[m, n]` row by row.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn multiply(&self, a: View<'_>, out: &mut [f32], add: bool) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Brain(b) => b.multiply(a, out, add),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(b) => b.multiply(a, out, add),
            #[cfg(target_arch = "x86_64")]
            Self::Narrow(b) => b.multiply(a, out, add),
            Self::Plain(b) => b.multiply(a, out, add),
        }
    }
}

/// a·b: `[m, k]`, `[k, n]` → `[m, n]`.
pub(crate) fn multiply(a: View<'_>, b: View<'_>, precision: Precision) -> Vec<f32> {
    let mut out = vec![0f32; a.rows * b.columns];
    Packed::new(b, precision).multiply(a, &mut out, false);
    out
}

/// A factor `[depth, width]` cut into blocks of depth, each cut into panels of a tile's width.
pub(crate) struct Panels<T: Tile> {
    depth: usize,
    width: usize,
    blocks: Vec<Vec<T::Number>>,
}

impl<T: Tile> Panels<T> {
    fn new(b: View<'_>) -> Self {
        let blocks = (0..b.rows).step_by(BLOCK).map(|from| pack::panels::<T>(b, from)).collect();
        Self { depth: b.rows, width: b.columns, blocks }
    }

    fn multiply(&self, a: View<'_>, out: &mut [f32], add: bool) {
        assert_eq!((a.columns, a.rows * self.width), (self.depth, out.len()), "the sizes of a product");
        if out.is_empty() || self.depth == 0 {
            return;
        }
        let rows = rows_per_task::<T>(a.rows);
        for (at, panels) in self.blocks.iter().enumerate() {
            let (from, add) = (at * BLOCK, add || at > 0);
            out.par_chunks_mut(rows * self.width).enumerate().for_each(|(task, out)| {
                let strips = Strips::<T>::new(a, (task * rows, out.len() / self.width), from);
                multiply_block::<T>(&strips, panels, self.width, out, add);
            });
        }
    }
}

/// Rows of the result that one task computes: whole tiles, few enough to stay in the second-level cache, and several
/// tasks a thread.
fn rows_per_task<T: Tile>(rows: usize) -> usize {
    let fair = rows.div_ceil(4 * rayon::current_num_threads());
    fair.clamp(4 * T::ROWS, 16 * T::ROWS).next_multiple_of(T::ROWS)
}

/// Every strip of rows by every panel of columns, into some rows of the result.
fn multiply_block<T: Tile>(
    strips: &Strips<'_, T>,
    panels: &[T::Number],
    width: usize,
    out: &mut [f32],
    add: bool,
) {
    let mut tile = vec![0f32; T::ROWS * T::COLUMNS];
    for (at, panel) in panels.chunks_exact(T::COLUMNS * strips.depth()).enumerate() {
        let from = at * T::COLUMNS;
        let columns = T::COLUMNS.min(width - from);
        for (strip, rows) in out.chunks_mut(T::ROWS * width).enumerate() {
            strips.multiply(strip, panel, &mut tile);
            for (row, tile) in rows.chunks_exact_mut(width).zip(tile.chunks_exact(T::COLUMNS)) {
                put(&mut row[from..from + columns], &tile[..columns], add);
            }
        }
    }
}

#[inline(always)]
fn put(out: &mut [f32], tile: &[f32], add: bool) {
    if add {
        for (out, tile) in out.iter_mut().zip(tile) {
            *out += tile;
        }
    } else {
        out.copy_from_slice(tile);
    }
}

#[cfg(test)]
mod tests;
