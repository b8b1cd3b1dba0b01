//! Where products go: matrices that are cut by rows or by columns, so that threads write different parts of the same rows.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::Start;

/// A matrix in memory that belongs to one writer: `rows` rows of `columns` numbers, the first numbers of rows `step` apart.
#[derive(Debug)]
pub(super) struct Sheet<'a> {
    first: *mut f32,
    rows: usize,
    columns: usize,
    step: usize,
    life: PhantomData<&'a mut f32>,
}

#[expect(unsafe_code, reason = "threads write parts of one matrix")]
// SAFETY: a sheet is the one way to its numbers, as a `&mut [f32]` is; its parts have no number in common.
unsafe impl Send for Sheet<'_> {}

impl<'a> Sheet<'a> {
    /// Rows of `columns` numbers that start `step` apart; the last may end where its columns do.
    ///
    /// # Panics
    /// If the values are not whole rows.
    pub(super) fn strided(values: &'a mut [f32], (rows, columns): (usize, usize), step: usize) -> Self {
        assert!(columns <= step || rows <= 1, "rows of {columns} numbers, {step} apart");
        assert!(rows == 0 || values.len() >= (rows - 1) * step + columns, "a sheet of {rows}×{columns}");
        Self { first: values.as_mut_ptr(), rows, columns, step, life: PhantomData }
    }

    /// Rows that follow each other.
    ///
    /// # Panics
    /// If there are not `rows`·`columns` values.
    pub(super) fn new(values: &'a mut [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a sheet of {rows}×{columns}");
        Self::strided(values, (rows, columns), columns)
    }

    /// As [`Sheet::new`], over memory that holds nothing yet.
    ///
    /// # Safety
    /// Every number is written before it is read: a product starts from [`Start::Zero`] or [`Start::Row`].
    ///
    /// # Panics
    /// If there is not room for `rows`·`columns` values.
    #[expect(unsafe_code, reason = "memory that is written once need not be cleared before")]
    pub(super) unsafe fn unwritten(room: &'a mut [MaybeUninit<f32>], rows: usize, columns: usize) -> Self {
        assert!(room.len() >= rows * columns, "a sheet of {rows}×{columns}");
        Self { first: room.as_mut_ptr().cast(), rows, columns, step: columns, life: PhantomData }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Parts of `rows` rows; the last may have fewer.
    pub(super) fn cut_rows(self, rows: usize) -> Vec<Self> {
        let part = |from: usize| {
            let first = self.first.wrapping_add(from * self.step);
            Self { first, rows: rows.min(self.rows - from), life: PhantomData, ..self }
        };
        (0..self.rows).step_by(rows).map(part).collect()
    }

    /// Parts of so many columns each, of all rows.
    ///
    /// # Panics
    /// If there are not so many columns.
    pub(super) fn cut_columns(self, widths: impl IntoIterator<Item = usize>) -> Vec<Self> {
        let mut from = 0;
        let mut part = |columns: usize| {
            let first = self.first.wrapping_add(from);
            from += columns;
            assert!(from <= self.columns, "{from} columns of {}", self.columns);
            Self { first, columns, life: PhantomData, ..self }
        };
        widths.into_iter().map(&mut part).collect()
    }

    /// A tile's part: `rows` rows from `row` on, `columns` columns from `column` on.
    ///
    /// # Panics
    /// If it is not within the sheet.
    #[inline]
    pub(super) fn tile(
        &mut self,
        (row, rows): (usize, usize),
        (column, columns): (usize, usize),
    ) -> Target<'_> {
        assert!(row + rows <= self.rows && column + columns <= self.columns, "a tile beyond its sheet");
        let first = self.first.wrapping_add(row * self.step + column);
        Target { first, step: self.step, rows, columns, life: PhantomData }
    }

    /// One row, which has been written.
    ///
    /// # Panics
    /// If there is no such row.
    pub(super) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        #[expect(unsafe_code, reason = "a row of a part is a slice of its own")]
        // SAFETY: the row is the sheet's alone, and as long as it is borrowed so is the sheet.
        unsafe {
            std::slice::from_raw_parts_mut(self.first.add(row * self.step), self.columns)
        }
    }

    /// What a product of no depth leaves.
    pub(super) fn begin(&mut self, start: Start<'_>) {
        let (rows, columns) = (self.rows, self.columns);
        let mut tile = self.tile((0, rows), (0, columns));
        for i in 0..rows {
            for j in 0..columns {
                match start {
                    Start::Zero => tile.put(i, j, 0.0),
                    Start::Row(values) => tile.put(i, j, values[j]),
                    Start::Out => {}
                }
            }
        }
    }
}

/// Where a tile's sums go: rows of `columns` numbers, `step` apart.
pub(crate) struct Target<'a> {
    first: *mut f32,
    step: usize,
    rows: usize,
    columns: usize,
    life: PhantomData<&'a mut f32>,
}

impl Target<'_> {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The first number, and the step between rows.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn raw(&mut self) -> (*mut f32, usize) {
        (self.first, self.step)
    }

    fn place(&self, row: usize, column: usize) -> *mut f32 {
        assert!(row < self.rows && column < self.columns, "a number beyond its tile");
        self.first.wrapping_add(row * self.step + column)
    }

    /// The number there, which has been written.
    pub(super) fn get(&self, row: usize, column: usize) -> f32 {
        #[expect(unsafe_code, reason = "numbers of a part of a matrix")]
        // SAFETY: the place is within the tile, which nobody else writes.
        unsafe {
            self.place(row, column).read()
        }
    }

    pub(super) fn put(&mut self, row: usize, column: usize, value: f32) {
        #[expect(unsafe_code, reason = "numbers of a part of a matrix")]
        // SAFETY: the place is within the tile, which nobody else reads or writes.
        unsafe {
            self.place(row, column).write(value);
        }
    }
}
