//! Factors laid out as tiles read them.

use std::borrow::Cow;

use rayon::prelude::*;

use super::super::simd::vectorised;
use super::tile::{Number, Order, Tile};
use super::{BLOCK, View};

/// Where the lines of a panel come from: element (line, depth) is `values[line·line_step + depth·depth_step]`.
pub(super) struct Lines<'a> {
    values: &'a [f32],
    line_step: usize,
    depth_step: usize,
    lines: usize,
    depth: usize,
}

/// Writes `[depth / N::TERMS, width]`; lines past the last are 0, and so is a last odd term.
#[inline(always)]
fn interleave<N: Number>(from: &Lines<'_>, width: usize, out: &mut [N]) {
    let Lines { values, line_step, depth_step, lines, depth } = *from;
    for first in (0..out.len() / width).step_by(16) {
        for line in 0..lines {
            for at in first..(first + 16).min(out.len() / width) {
                let start = line * line_step + at * N::TERMS * depth_step;
                let term =
                    |i: usize| if at * N::TERMS + i < depth { values[start + i * depth_step] } else { 0.0 };
                out[at * width + line] = N::of([term(0), if N::TERMS == 2 { term(1) } else { 0.0 }]);
            }
        }
    }
}

/// As [`interleave`], where neighbouring lines are neighbours in memory.
#[inline(always)]
fn interleave_rows<N: Number>(from: &Lines<'_>, width: usize, out: &mut [N]) {
    let Lines { values, depth_step, lines, depth, .. } = *from;
    for (at, out) in out.chunks_exact_mut(width).enumerate() {
        let row = |i: usize| {
            let start = (at * N::TERMS + i) * depth_step;
            &values[start..start + lines]
        };
        let (out, whole) = (&mut out[..lines], (at + 1) * N::TERMS <= depth);
        if N::TERMS == 2 && whole {
            for ((out, &a), &b) in out.iter_mut().zip(row(0)).zip(row(1)) {
                *out = N::of([a, b]);
            }
        } else {
            for (out, &a) in out.iter_mut().zip(row(0)) {
                *out = N::of([a, 0.0]);
            }
        }
    }
}

#[inline(always)]
fn fill<N: Number>(from: &Lines<'_>, width: usize, out: &mut [N]) {
    if from.line_step == 1 { interleave_rows(from, width, out) } else { interleave(from, width, out) }
}

vectorised! {
    fn fill_f32(from: &Lines<'_>, width: usize, out: &mut [f32]) {
        fill(from, width, out);
    }
}

vectorised! {
    fn fill_bf16(from: &Lines<'_>, width: usize, out: &mut [u32]) {
        fill(from, width, out);
    }
}

vectorised! {
    /// Rows of pairs, row by row; a last odd term is paired with 0.
    fn round_rows(values: &[f32], step: usize, depth: usize, out: &mut [u32]) {
        let pairs = depth.div_ceil(2);
        for (row, out) in out.chunks_exact_mut(pairs).enumerate() {
            let values = &values[row * step..row * step + depth];
            for (out, pair) in out.iter_mut().zip(values.chunks(2)) {
                *out = u32::of([pair[0], pair.get(1).copied().unwrap_or(0.0)]);
            }
        }
    }
}

impl Number for f32 {
    const TERMS: usize = 1;

    #[inline(always)]
    fn of(terms: [f32; 2]) -> Self {
        terms[0]
    }

    fn rows<'a>(values: &'a [f32], step: usize, _rows: usize, _depth: usize) -> (Cow<'a, [Self]>, usize) {
        (Cow::Borrowed(values), step)
    }
}

/// A pair of bf16, the first in the low half.
impl Number for u32 {
    const TERMS: usize = 2;

    #[inline(always)]
    fn of(terms: [f32; 2]) -> Self {
        let round = |x: f32| {
            let bits = x.to_bits();
            bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16
        };
        round(terms[0]) | round(terms[1]) << 16
    }

    fn rows<'a>(values: &'a [f32], step: usize, rows: usize, depth: usize) -> (Cow<'a, [Self]>, usize) {
        let pairs = depth.div_ceil(2);
        let mut out = vec![0u32; rows * pairs];
        round_rows(values, step, depth, &mut out);
        (Cow::Owned(out), pairs)
    }
}

/// Chooses the compiled filling for a kind of number.
pub(super) trait Fill: Number {
    /// See [`interleave`].
    fn fill(from: &Lines<'_>, width: usize, out: &mut [Self]);
}

impl Fill for f32 {
    fn fill(from: &Lines<'_>, width: usize, out: &mut [Self]) {
        fill_f32(from, width, out);
    }
}

impl Fill for u32 {
    fn fill(from: &Lines<'_>, width: usize, out: &mut [Self]) {
        fill_bf16(from, width, out);
    }
}

/// The panels of one block of depth of a right factor `[k, n]`.
pub(super) fn panels<T: Tile>(b: View<'_>, from: usize) -> Vec<T::Number> {
    let depth = BLOCK.min(b.rows - from);
    let terms = depth.div_ceil(T::Number::TERMS);
    let mut out = vec![T::Number::default(); b.columns.div_ceil(T::COLUMNS) * T::COLUMNS * terms];
    out.par_chunks_mut(T::COLUMNS * terms).enumerate().for_each(|(panel, out)| {
        let first = panel * T::COLUMNS;
        let lines = Lines {
            values: &b.values[from * b.row + first * b.column..],
            line_step: b.column,
            depth_step: b.row,
            lines: T::COLUMNS.min(b.columns - first),
            depth,
        };
        T::Number::fill(&lines, T::COLUMNS, out);
    });
    out
}

/// Some rows of a left factor, over one block of depth, strip by strip of a tile's height.
pub(super) struct Strips<'a, T: Tile> {
    /// Whole strips as they lie in memory, row after row, and the step between rows; if rows are contiguous.
    whole: Option<(Cow<'a, [T::Number]>, usize)>,
    /// The other strips, interleaved.
    packed: Vec<T::Number>,
    first_packed: usize,
    depth: usize,
}

impl<'a, T: Tile> Strips<'a, T> {
    pub(super) fn new(a: View<'a>, (first, rows): (usize, usize), from: usize) -> Self {
        let depth = BLOCK.min(a.columns - from);
        let terms = depth.div_ceil(T::Number::TERMS);
        let start = &a.values[first * a.row + from * a.column..];
        let first_packed = if a.column == 1 { rows / T::ROWS } else { 0 };
        let whole = (first_packed > 0).then(|| T::Number::rows(start, a.row, first_packed * T::ROWS, depth));
        let strips = rows.div_ceil(T::ROWS);
        let mut packed = vec![T::Number::default(); (strips - first_packed) * T::ROWS * terms];
        for (at, out) in packed.chunks_exact_mut(T::ROWS * terms).enumerate() {
            let row = (first_packed + at) * T::ROWS;
            let lines = Lines {
                values: &start[row * a.row..],
                line_step: a.row,
                depth_step: a.column,
                lines: T::ROWS.min(rows - row),
                depth,
            };
            T::Number::fill(&lines, T::ROWS, out);
        }
        Self { whole, packed, first_packed, depth: terms }
    }

    /// Numbers in depth.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// One strip by one panel.
    #[inline]
    pub(super) fn multiply(&self, strip: usize, panel: &[T::Number], tile: &mut [f32]) {
        match &self.whole {
            Some((rows, step)) if strip < self.first_packed => {
                let order = Order::Rows { step: *step };
                T::multiply(self.depth, &rows[strip * T::ROWS * step..], order, panel, tile);
            }
            _ => {
                let from = (strip - self.first_packed) * T::ROWS * self.depth;
                T::multiply(self.depth, &self.packed[from..], Order::Interleaved, panel, tile);
            }
        }
    }
}
