//! Factors laid out as tiles read them: all lines of one depth (or pair of depths), then those of the next.

use std::borrow::Cow;

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
mod narrow;
#[cfg(target_arch = "x86_64")]
mod wide;

use super::super::simd::vectorised;
use super::tile::{Left, Number, Tile};
use super::{BLOCK, View};

/// Where the lines of a panel come from: element (line, depth) is `values[line·line_step + depth·depth_step]`.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) values: &'a [f32],
    pub(super) line_step: usize,
    pub(super) depth_step: usize,
    pub(super) lines: usize,
    pub(super) depth: usize,
}

/// Writes `[depth / N::TERMS, width]`; lines past the last are 0, and so is a last odd term.
#[inline(always)]
fn interleave<N: Number>(from: Lines<'_>, width: usize, out: &mut [N]) {
    let Lines { values, line_step, depth_step, lines, depth } = from;
    for (at, out) in out.chunks_exact_mut(width).enumerate() {
        let first = at * N::TERMS;
        let term = |line: usize, p: usize| {
            if p < depth { values[line * line_step + p * depth_step] } else { 0.0 }
        };
        for (line, out) in out[..lines].iter_mut().enumerate() {
            let second = if N::TERMS == 2 { term(line, first + 1) } else { 0.0 };
            *out = N::of([term(line, first), second]);
        }
        out[lines..].fill(N::default());
    }
}

/// [`interleave`] of as many neighbouring lines as the panel is wide.
fn copy<const WIDTH: usize>(from: Lines<'_>, out: &mut [f32]) {
    for (p, out) in out.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        out.copy_from_slice(&from.values[p * from.depth_step..][..WIDTH]);
    }
}

/// Panics unless all that a filling touches is in bounds.
#[cfg(target_arch = "x86_64")]
fn check(from: &Lines<'_>, width: usize, terms: usize, out_length: usize) {
    let Lines { values, line_step, depth_step, lines, depth } = *from;
    assert!(lines > 0 && depth > 0 && lines <= width, "a panel has other sizes");
    assert!(values.len() > (lines - 1) * line_step + (depth - 1) * depth_step, "a factor is too short");
    assert!(out_length >= depth.div_ceil(terms) * width, "a panel is too short");
}

vectorised! {
    fn interleave_f32(from: Lines<'_>, width: usize, out: &mut [f32]) {
        interleave(from, width, out);
    }
}

impl Number for f32 {
    const TERMS: usize = 1;

    #[inline(always)]
    fn of(terms: [f32; 2]) -> Self {
        terms[0]
    }
}

/// A pair of bf16, the first in the low half.
impl Number for u32 {
    const TERMS: usize = 2;

    #[inline(always)]
    fn of(terms: [f32; 2]) -> Self {
        let round = |x: f32| {
            let bits = x.to_bits();
            if x.is_nan() { bits >> 16 | 0x40 } else { (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 }
        };
        round(terms[0]) | round(terms[1]) << 16
    }
}

/// How a kind of number is packed, by the best code there is.
pub(super) trait Fill: Number {
    /// See [`interleave`].
    fn fill(from: Lines<'_>, width: usize, out: &mut [Self]);

    /// Rows of these numbers from contiguous rows of f32, and the step between them.
    fn rows<'a>(values: &'a [f32], step: usize, rows: usize, depth: usize) -> (Cow<'a, [Self]>, usize);
}

impl Fill for f32 {
    fn fill(from: Lines<'_>, width: usize, out: &mut [Self]) {
        #[cfg(target_arch = "x86_64")]
        if (from.line_step == 1 || from.depth_step == 1) && wide::fill_f32(from, width, out) {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if narrow::turn_f32(from, width, out) {
            return;
        }
        match (from.line_step, from.lines == width, width) {
            (1, true, 16) => copy::<16>(from, out),
            (1, true, 8) => copy::<8>(from, out),
            (1, true, 6) => copy::<6>(from, out),
            _ => interleave_f32(from, width, out),
        }
    }

    fn rows<'a>(values: &'a [f32], step: usize, _rows: usize, _depth: usize) -> (Cow<'a, [Self]>, usize) {
        (Cow::Borrowed(values), step)
    }
}

impl Fill for u32 {
    fn fill(from: Lines<'_>, width: usize, out: &mut [Self]) {
        #[cfg(target_arch = "x86_64")]
        if (from.line_step == 1 || from.depth_step == 1) && wide::fill_bf16(from, width, out) {
            return;
        }
        interleave(from, width, out);
    }

    fn rows<'a>(values: &'a [f32], step: usize, rows: usize, depth: usize) -> (Cow<'a, [Self]>, usize) {
        let pairs = depth.div_ceil(2);
        let mut out = vec![0u32; rows * pairs];
        for (row, out) in out.chunks_exact_mut(pairs).enumerate() {
            let from = Lines { values: &values[row * step..], line_step: 0, depth_step: 1, lines: 1, depth };
            #[cfg(target_arch = "x86_64")]
            if wide::round_row(&from.values[..depth], step, out) {
                continue;
            }
            interleave(from, 1, out);
        }
        (Cow::Owned(out), pairs)
    }
}

/// The width of each panel that `columns` columns are cut into: as many vectors as a tile takes, and no last panel of
/// one vector if the one before can share.
pub(super) fn widths<T: Tile>(columns: usize) -> impl Iterator<Item = usize> {
    let mut left = columns.div_ceil(T::LANES);
    std::iter::from_fn(move || {
        let vectors = if left == T::VECTORS + 1 && left > 2 { left / 2 } else { left.min(T::VECTORS) };
        left -= vectors;
        (vectors > 0).then_some(vectors * T::LANES)
    })
}

/// Panels that one task fills together.
const TOGETHER: usize = 16;

/// Depths after which filling turns to the next panel, where lines are neighbours in memory: so memory is read row by row.
const ROWS_AT_ONCE: usize = 16;

/// Factors of no more numbers are packed by the thread that asks: sharing them out costs more.
const SMALL: usize = 1 << 15;

/// A panel to be filled: its first line, its width, and where it goes.
type Empty<'a, N> = (usize, usize, &'a mut [N]);

/// Fills neighbouring panels with lines of a factor whose element (line, depth) is at line·`steps.0` + depth·`steps.1`.
fn fill_together<N: Fill>(
    values: &[f32],
    steps: (usize, usize),
    (lines, depth): (usize, usize),
    panels: &mut [Empty<'_, N>],
) {
    let at_once = if steps.0 == 1 { ROWS_AT_ONCE } else { depth };
    for from in (0..depth).step_by(at_once) {
        for (first, width, out) in panels.iter_mut() {
            let part = Lines {
                values: &values[*first * steps.0 + from * steps.1..],
                line_step: steps.0,
                depth_step: steps.1,
                lines: (*width).min(lines - *first),
                depth: at_once.min(depth - from),
            };
            let start = from / N::TERMS * *width;
            N::fill(part, *width, &mut out[start..start + part.depth.div_ceil(N::TERMS) * *width]);
        }
    }
}

/// The panels of one block of depth of a right factor `[k, n]`, one after the other.
pub(super) fn panels<T: Tile>(b: View<'_>, from: usize) -> Vec<T::Number> {
    let depth = BLOCK.min(b.rows - from);
    let terms = depth.div_ceil(T::Number::TERMS);
    let width: usize = widths::<T>(b.columns).sum();
    let mut out = vec![T::Number::default(); width * terms];
    let mut parts = empty::<T>(0, widths::<T>(b.columns), terms, &mut out);
    let values = &b.values[(from * b.row).min(b.values.len())..];
    let fill = |parts: &mut [_]| fill_together(values, (b.column, b.row), (b.columns, depth), parts);
    if b.columns * depth > SMALL {
        parts.par_chunks_mut(TOGETHER).for_each(fill);
    } else {
        fill(&mut parts);
    }
    out
}

/// Fills some panels of one block of depth, from column `first` on, on this thread.
pub(super) fn fill_panels<T: Tile>(
    b: View<'_>,
    from: usize,
    (first, widths): (usize, &[usize]),
    out: &mut [T::Number],
) {
    let depth = BLOCK.min(b.rows - from);
    let terms = depth.div_ceil(T::Number::TERMS);
    let mut parts = empty::<T>(first, widths.iter().copied(), terms, out);
    fill_together(&b.values[from * b.row..], (b.column, b.row), (b.columns, depth), &mut parts);
}

/// Panels one after the other, as deep as there are `terms`.
fn empty<T: Tile>(
    mut first: usize,
    widths: impl Iterator<Item = usize>,
    terms: usize,
    mut rest: &mut [T::Number],
) -> Vec<Empty<'_, T::Number>> {
    let panel = |width: usize| {
        let (part, others) = std::mem::take(&mut rest).split_at_mut(width * terms);
        let panel = (first, width, part);
        (rest, first) = (others, first + width);
        panel
    };
    widths.map(panel).collect()
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
        let others = packed.chunks_exact_mut(T::ROWS * terms).enumerate();
        let mut others: Vec<_> =
            others.map(|(at, out)| ((first_packed + at) * T::ROWS, T::ROWS, out)).collect();
        fill_together(start, (a.row, a.column), (rows, depth), &mut others);
        Self { whole, packed, first_packed, depth: terms }
    }

    /// Numbers in depth.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// One strip, as a tile reads it.
    #[inline]
    pub(super) fn strip(&self, strip: usize) -> Left<'_, T::Number> {
        match &self.whole {
            Some((rows, step)) if strip < self.first_packed => {
                Left { numbers: &rows[strip * T::ROWS * step..], row_step: *step, depth_step: 1 }
            }
            _ => {
                let from = (strip - self.first_packed) * T::ROWS * self.depth;
                Left { numbers: &self.packed[from..], row_step: 1, depth_step: T::ROWS }
            }
        }
    }
}
