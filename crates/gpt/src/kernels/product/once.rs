//! Products whose right factor is used once: nothing of it is kept.
//!
//! The columns of the result are shared out over the threads. A task packs a few panels, a block of depth at a time, into room
//! that stays in its second-level cache, and takes all rows through them; so what is packed never goes to memory and back, and
//! no thread waits for another's packing. Long factors go slab by slab of depth, of which the rows stay in the cache as well.
//! Sums are those of [`Panels`](super::Panels), to the bit.

use std::ops::Range;

use rayon::prelude::*;

use super::pack::{self, Strips};
use super::sheet::Sheet;
use super::tile::{Number, Tile};
use super::{BLOCK, Start, View, multiply_panel, rows_per_task};

/// Columns that a task takes at most: a block of them takes 192 KiB.
const COLUMNS: usize = 192;

/// Depth that goes through all columns before the next does.
const SLAB: usize = 8 * BLOCK;

/// The panels of one task: the first column, and the width of each.
struct Group {
    first: usize,
    widths: Vec<usize>,
}

impl Group {
    fn width(&self) -> usize {
        self.widths.iter().sum()
    }

    /// Panels in groups of about [`COLUMNS`] columns, or of fewer if there are more threads than that would keep busy.
    fn all<T: Tile>(columns: usize) -> Vec<Self> {
        let fair = columns.div_ceil(4 * rayon::current_num_threads()).min(COLUMNS);
        let mut groups: Vec<Self> = Vec::new();
        let mut first = 0;
        for width in pack::widths::<T>(columns) {
            match groups.last_mut().filter(|group| group.width() + width <= fair) {
                Some(group) => group.widths.push(width),
                None => groups.push(Self { first, widths: vec![width] }),
            }
            first += width;
        }
        groups
    }
}

/// The rows of a left factor over a slab of depth, as tiles read them: a run of rows, block by block.
struct Run<'a, T: Tile> {
    first: usize,
    rows: usize,
    blocks: Vec<Strips<'a, T>>,
}

fn runs<'a, T: Tile>(a: View<'a>, slab: &Range<usize>) -> Vec<Run<'a, T>> {
    let together = rows_per_task::<T>(a.rows);
    let run = |first: usize| {
        let rows = together.min(a.rows - first);
        let block = |from| Strips::new(a, (first, rows), from);
        Run { first, rows, blocks: slab.clone().step_by(BLOCK).map(block).collect() }
    };
    (0..a.rows).into_par_iter().step_by(together).map(run).collect()
}

/// sheet ← start + a·b; `then` is called with each row of each part as soon as it is there, and with its place in the whole.
pub(super) fn multiply<T: Tile>(
    a: View<'_>,
    b: View<'_>,
    mut sheet: Sheet<'_>,
    start: Start<'_>,
    then: impl Fn(usize, &mut [f32]) + Sync,
) {
    if a.columns == 0 {
        sheet.begin(start);
    }
    let (groups, width) = (Group::all::<T>(b.columns), b.columns);
    let ends = groups.iter().map(|group| (group.first + group.width()).min(width) - group.first);
    let mut parts = sheet.cut_columns(ends);
    for from in (0..a.columns.max(1)).step_by(SLAB) {
        let slab = from..(from + SLAB).min(a.columns);
        let runs = runs::<T>(a, &slab);
        let start = if from == 0 { start } else { Start::Out };
        let tasks = parts.par_iter_mut().zip(groups.par_iter());
        tasks.for_each_init(Vec::new, |room, (part, group)| {
            through(&runs, (b, &slab), group, (part, start), room);
            if slab.end == a.columns {
                (0..part.rows()).for_each(|row| then(row * width + group.first, part.row(row)));
            }
        });
    }
}

/// All rows through the panels of a group, block by block of a slab.
fn through<T: Tile>(
    runs: &[Run<'_, T>],
    (b, slab): (View<'_>, &Range<usize>),
    group: &Group,
    (part, start): (&mut Sheet<'_>, Start<'_>),
    room: &mut Vec<T::Number>,
) {
    for (at, from) in slab.clone().step_by(BLOCK).enumerate() {
        let depth = BLOCK.min(b.rows - from).div_ceil(T::Number::TERMS);
        room.resize(group.width() * depth, T::Number::default());
        pack::fill_panels::<T>(b, from, (group.first, &group.widths), room);
        let start = match (at, start) {
            (0, Start::Row(row)) => Start::Row(&row[group.first..]),
            (0, start) => start,
            _ => Start::Out,
        };
        for run in runs {
            let (mut panels, mut column) = (room.as_slice(), 0);
            for &width in &group.widths {
                let (panel, others) = panels.split_at(width * depth);
                let columns = width.min(part.columns() - column);
                let place = ((run.first, run.rows), (column, columns));
                multiply_panel::<T>(&run.blocks[at], (panel, width), (&mut *part, place), start);
                (panels, column) = (others, column + width);
            }
        }
    }
}
