//! Matrix products in f32, with tiles for AVX-512, AVX2 and any processor, and in bf16 where the processor has it.
//!
//! The right factor is packed once, in blocks of [`BLOCK`] of its depth, into panels of a tile's width: what a tile reads
//! is then one stream. The rows of the result are shared out over the threads; a thread takes a few strips of rows (which
//! stay in its second-level cache) through panel after panel. Of a factor that is used once, and by few rows, the columns are
//! shared out instead, and each thread packs what it is about to read (`once`). Each element is summed over k in order, block by
//! block, so a result does not depend on the thread count, and is the same to the bit with AVX-512 and AVX2.
//!
//! # Source
//! Goto & van de Geijn (2008), "Anatomy of high-performance matrix multiplication".

mod once;
mod pack;
mod sheet;
mod tile;

use std::sync::OnceLock;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use pack::Strips;
use sheet::Sheet;
use tile::Number;
pub(super) use tile::Tile;

/// Depth of one pass over k: a panel of it fits the first-level cache.
const BLOCK: usize = 256;

/// The numbers that are multiplied in matrix products; sums, weights and activations are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 24 bits. The default: the same bits on every machine.
    #[default]
    F32,
    /// 8 bits, rounded to nearest even, where the processor multiplies them; f32 elsewhere.
    Bf16,
}

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// Nothing.
    Zero,
    /// The same row everywhere: a bias.
    Row(&'a [f32]),
    /// What the target holds.
    Out,
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

    /// A part of a larger matrix: rows start `step` apart.
    ///
    /// # Panics
    /// If the rows do not fit.
    pub(crate) fn strided(values: &'a [f32], (rows, columns): (usize, usize), step: usize) -> Self {
        let fits = rows == 0 || (values.len() >= (rows - 1) * step + columns && columns <= step);
        assert!(fits, "a part of {rows}×{columns}");
        Self { values, rows, columns, row: step, column: 1 }
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If there are not so many.
    pub(crate) fn part(self, rows: std::ops::Range<usize>) -> Self {
        assert!(rows.end <= self.rows && !rows.is_empty(), "rows {rows:?} of {}", self.rows);
        Self { values: &self.values[rows.start * self.row..], rows: rows.len(), ..self }
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

    /// Columns of the factor.
    fn width(&self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Brain(b) => b.width,
            #[cfg(target_arch = "x86_64")]
            Self::Wide(b) => b.width,
            #[cfg(target_arch = "x86_64")]
            Self::Narrow(b) => b.width,
            Self::Plain(b) => b.width,
        }
    }

    /// out ← start + a·b: a `[m, k]`, out `[m, n]` row by row; the rows are shared out over the threads. `then` is called with
    /// each row of the result soon after it is there, while it is still in the cache, and with its place: how many numbers
    /// of the result come before it.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn multiply(
        &self,
        a: View<'_>,
        out: &mut [f32],
        start: Start<'_>,
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let sheet = Sheet::new(out, a.rows, self.width());
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Brain(b) => b.multiply(a, sheet, start, then),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(b) => b.multiply(a, sheet, start, then),
            #[cfg(target_arch = "x86_64")]
            Self::Narrow(b) => b.multiply(a, sheet, start, then),
            Self::Plain(b) => b.multiply(a, sheet, start, then),
        }
    }

    /// out ← start + a·b on this thread, for the first columns of b, and as much of its depth as a has: a `[m, ≤ k]`,
    /// rows of `out` start `step` apart.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn multiply_here(
        &self,
        a: View<'_>,
        (out, step, columns): (&mut [f32], usize, usize),
        start: Start<'_>,
    ) {
        let mut sheet = Sheet::strided(out, (a.rows, columns), step);
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Brain(b) => b.multiply_rows(a, 0, &mut sheet, start),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(b) => b.multiply_rows(a, 0, &mut sheet, start),
            #[cfg(target_arch = "x86_64")]
            Self::Narrow(b) => b.multiply_rows(a, 0, &mut sheet, start),
            Self::Plain(b) => b.multiply_rows(a, 0, &mut sheet, start),
        }
    }
}

/// Of a left factor of more rows the packed right one is used often enough to be kept.
const FEW_ROWS: usize = 1024;

/// a·b: `[m, k]`, `[k, n]` → `[m, n]`.
pub(crate) fn multiply(a: View<'_>, b: View<'_>, precision: Precision) -> Vec<f32> {
    let count = a.rows * b.columns;
    let mut out = Vec::with_capacity(count);
    #[expect(unsafe_code, reason = "a result that is written whole need not be cleared before")]
    // SAFETY: a product that starts from zero writes every number before it reads it, and none is left out.
    unsafe {
        let sheet = Sheet::unwritten(&mut out.spare_capacity_mut()[..count], a.rows, b.columns);
        multiply_into((a, b), Instructions::best(precision), sheet, Start::Zero, |_, _| {});
        out.set_len(count);
    }
    out
}

/// out ← start + a·b, with `then` as in [`Packed::multiply`] for each part of a row, for a right factor that is not used again.
///
/// # Panics
/// If the sizes do not fit.
pub(crate) fn multiply_once(
    (a, b): (View<'_>, View<'_>),
    precision: Precision,
    out: &mut [f32],
    start: Start<'_>,
    then: impl Fn(usize, &mut [f32]) + Sync,
) {
    let sheet = Sheet::new(out, a.rows, b.columns);
    multiply_into((a, b), Instructions::best(precision), sheet, start, then);
}

/// out ← out + a·b; an `out` of nothing becomes the product.
///
/// # Panics
/// If the sizes do not fit.
pub(crate) fn accumulate(factors: (View<'_>, View<'_>), precision: Precision, out: &mut Vec<f32>) {
    if out.is_empty() {
        *out = multiply(factors.0, factors.1, precision);
    } else {
        multiply_once(factors, precision, out, Start::Out, |_, _| {});
    }
}

fn multiply_into(
    (a, b): (View<'_>, View<'_>),
    instructions: Instructions,
    sheet: Sheet<'_>,
    start: Start<'_>,
    then: impl Fn(usize, &mut [f32]) + Sync,
) {
    assert_eq!(a.columns, b.rows, "the depths of a product");
    assert_eq!((a.rows, b.columns), (sheet.rows(), sheet.columns()), "the sizes of a product");
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Brain => multiply_with::<tile::Brain>(a, b, sheet, start, then),
        #[cfg(target_arch = "x86_64")]
        Instructions::Wide => multiply_with::<tile::Wide>(a, b, sheet, start, then),
        #[cfg(target_arch = "x86_64")]
        Instructions::Narrow => multiply_with::<tile::Narrow>(a, b, sheet, start, then),
        Instructions::Plain => multiply_with::<tile::Plain>(a, b, sheet, start, then),
    }
}

fn multiply_with<T: Tile>(
    a: View<'_>,
    b: View<'_>,
    sheet: Sheet<'_>,
    start: Start<'_>,
    then: impl Fn(usize, &mut [f32]) + Sync,
) {
    if a.rows <= FEW_ROWS {
        once::multiply::<T>(a, b, sheet, start, then);
    } else {
        Panels::<T>::new(b).multiply(a, sheet, start, then);
    }
}

/// A factor `[depth, width]` cut into blocks of depth, each cut into panels.
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

    fn multiply(
        &self,
        a: View<'_>,
        sheet: Sheet<'_>,
        start: Start<'_>,
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        assert_eq!((a.columns, self.width), (self.depth, sheet.columns()), "the sizes of a product");
        let rows = rows_per_task::<T>(a.rows);
        sheet.cut_rows(rows).into_par_iter().enumerate().for_each(|(task, mut sheet)| {
            self.multiply_rows(a, task * rows, &mut sheet, start);
            (0..sheet.rows()).for_each(|row| then((task * rows + row) * self.width, sheet.row(row)));
        });
    }

    /// Some rows of the result, from `first` on, block of depth by block of depth.
    fn multiply_rows(&self, a: View<'_>, first: usize, sheet: &mut Sheet<'_>, start: Start<'_>) {
        let (rows, columns) = ((first, sheet.rows()), sheet.columns());
        assert!(a.columns <= self.depth && columns <= self.width, "the sizes of a product");
        if a.columns == 0 {
            sheet.begin(start);
        }
        for (at, from) in (0..a.columns).step_by(BLOCK).enumerate() {
            let strips = Strips::<T>::new(a, rows, from);
            let start = if at == 0 { start } else { Start::Out };
            let held = BLOCK.min(self.depth - from).div_ceil(T::Number::TERMS);
            let (mut panels, mut first) = (self.blocks[at].as_slice(), 0);
            for width in pack::widths::<T>(self.width) {
                if first >= columns {
                    break;
                }
                let (panel, others) = panels.split_at(width * held);
                let place = ((0, rows.1), (first, width.min(columns - first)));
                multiply_panel::<T>(&strips, (panel, width), (&mut *sheet, place), start);
                (panels, first) = (others, first + width);
            }
        }
    }
}

/// Rows of the result that one task computes: whole tiles, few enough to stay in the second-level cache, and several
/// tasks a thread.
fn rows_per_task<T: Tile>(rows: usize) -> usize {
    let fair = rows.div_ceil(4 * rayon::current_num_threads());
    fair.clamp(4 * T::ROWS, 16 * T::ROWS).next_multiple_of(T::ROWS)
}

/// The rows and the columns of a part of a sheet: the first, and how many.
type Place = ((usize, usize), (usize, usize));

/// Every strip of rows by one panel of columns.
fn multiply_panel<T: Tile>(
    strips: &Strips<'_, T>,
    panel: (&[T::Number], usize),
    (sheet, ((first, rows), columns)): (&mut Sheet<'_>, Place),
    start: Start<'_>,
) {
    let start = match start {
        Start::Row(row) => Start::Row(&row[columns.0..]),
        other => other,
    };
    for strip in 0..rows.div_ceil(T::ROWS) {
        let row = strip * T::ROWS;
        let target = sheet.tile((first + row, T::ROWS.min(rows - row)), columns);
        T::multiply(strips.depth(), strips.strip(strip), panel, target, start);
    }
}

#[cfg(test)]
mod tests;
