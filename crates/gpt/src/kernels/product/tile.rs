//! The inner loops: a few rows by a few columns, held in registers over the whole depth.
//!
//! With R rows and V vectors of columns, a step of depth loads V vectors and R single numbers and does R·V multiply-adds:
//! (R + V) / (R·V) loads for each. 8 rows by 3 vectors of 16 take 24 of the 32 registers of AVX-512 for sums, 3 for the
//! right factor and 1 for the left, at 11 loads for 24 multiply-adds; the processor does two of each a cycle.

use super::Start;
use super::pack::Fill;
use super::sheet::Target;

/// A packed number: one f32, or a pair of bf16.
pub(crate) trait Number: Copy + Default + Send + Sync + 'static {
    /// Terms of the sum in one number.
    const TERMS: usize;

    /// Packs terms; the second is for pairs.
    fn of(terms: [f32; 2]) -> Self;
}

/// Where a tile's left operand is: number (row, depth) at `numbers[row·row_step + depth·depth_step]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left<'a, N> {
    pub(crate) numbers: &'a [N],
    pub(crate) row_step: usize,
    pub(crate) depth_step: usize,
}

/// A tile: `out[i, j]` = start + Σ over depth of a[i, p]·b[p, j].
#[expect(private_bounds, reason = "`Fill` says how panels are filled, which is nobody else's business")]
pub(crate) trait Tile: Send + Sync + 'static {
    /// What is multiplied.
    type Number: Fill;
    /// Rows of the tile.
    const ROWS: usize;
    /// Columns of a vector: panels are so many of them wide.
    const LANES: usize;
    /// The most vectors of a panel.
    const VECTORS: usize;

    /// `panel` is `[depth, width]` with `width` a multiple of [`Tile::LANES`]; the left operand has [`Tile::ROWS`] rows,
    /// whatever number of them is wanted.
    fn multiply(
        depth: usize,
        left: Left<'_, Self::Number>,
        panel: (&[Self::Number], usize),
        target: Target<'_>,
        start: Start<'_>,
    );
}

/// Panics unless every read and write of a tile is in bounds.
#[inline(always)]
fn check<T: Tile>(
    depth: usize,
    left: &Left<'_, T::Number>,
    (panel, width): (&[T::Number], usize),
    target: &Target<'_>,
    start: &Start<'_>,
) {
    let (rows, columns) = (target.rows(), target.columns());
    let last = (T::ROWS - 1) * left.row_step + (depth.max(1) - 1) * left.depth_step;
    assert!(depth > 0 && left.numbers.len() > last, "a tile's left operand is too short");
    assert!(panel.len() >= depth * width, "a tile's panel is too short");
    assert!((1..=T::ROWS).contains(&rows) && (1..=width).contains(&columns), "a tile has other sizes");
    let whole = width.is_multiple_of(T::LANES) && width <= T::VECTORS * T::LANES;
    assert!(whole, "a tile's panel has another width");
    if let Start::Row(row) = start {
        assert!(row.len() >= columns, "a tile's first row is too short");
    }
}

/// Any processor.
pub(crate) struct Plain;

impl Tile for Plain {
    type Number = f32;
    const ROWS: usize = 4;
    const LANES: usize = 8;
    const VECTORS: usize = 1;

    fn multiply(
        depth: usize,
        left: Left<'_, f32>,
        panel: (&[f32], usize),
        mut target: Target<'_>,
        start: Start<'_>,
    ) {
        check::<Self>(depth, &left, panel, &target, &start);
        for i in 0..target.rows() {
            let mut sums = [0f32; Self::LANES];
            for (p, b) in panel.0.chunks_exact(Self::LANES).take(depth).enumerate() {
                let a = left.numbers[i * left.row_step + p * left.depth_step];
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
            for (j, sum) in sums.into_iter().enumerate().take(target.columns()) {
                let sum = match start {
                    Start::Zero => sum,
                    Start::Row(row) => row[j] + sum,
                    Start::Out => target.get(i, j) + sum,
                };
                target.put(i, j, sum);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Brain, Narrow, Wide};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::Start;
    use super::{Left, Target, Tile, check};

    /// AVX-512: 8 rows by 48 columns.
    pub(crate) struct Wide;
    /// AVX2 with FMA: 6 rows by 16 columns.
    pub(crate) struct Narrow;
    /// AVX-512 with bf16: 8 rows by 48 columns.
    pub(crate) struct Brain;

    /// The inner loop over depth for one number of rows, vectors and kind of number.
    ///
    /// `$lanes` columns a vector; `$load` and `$set` make vectors, `$add` multiplies and adds, `$sum` adds; `$part` says which lanes of a vector of
    /// columns are in the target, and `$get` and `$put` read and write those.
    macro_rules! inner_loop {
        ($name:ident, $features:literal, $number:ty, $rows:literal, $lanes:literal,
         $zero:expr, $load:expr, $set:expr, $add:expr, $sum:expr, $part:expr, $get:expr, $put:expr) => {
            #[target_feature(enable = $features)]
            #[expect(unsafe_code, reason = "vector loads and stores through pointers")]
            /// # Safety
            /// `check` has passed for these operands with a width of `V` vectors.
            unsafe fn $name<const V: usize>(
                depth: usize,
                left: Left<'_, $number>,
                panel: *const $number,
                mut target: Target<'_>,
                start: Start<'_>,
            ) {
                let (rows, columns, (out, step)) = (target.rows(), target.columns(), target.raw());
                let mut sums = [[$zero; V]; $rows];
                let (numbers, row_step) = (left.numbers.as_ptr(), left.row_step);
                for p in 0..depth {
                    // SAFETY: p < depth, so the panel has V vectors there and the left operand its rows.
                    unsafe {
                        let mut right = [$load(panel.add(p * V * $lanes)); V];
                        for j in 1..V {
                            right[j] = $load(panel.add((p * V + j) * $lanes));
                        }
                        let left = numbers.add(p * left.depth_step);
                        for i in 0..$rows {
                            let x = $set(*left.add(i * row_step));
                            for j in 0..V {
                                sums[i][j] = $add(sums[i][j], x, right[j]);
                            }
                        }
                    }
                }
                for i in 0..$rows {
                    if i < rows {
                        for j in 0..V {
                            let (out, part) = (out.wrapping_add(i * step + j * $lanes), $part(columns, j));
                            // SAFETY: row i < rows of the target has `columns` numbers, and the parts are within them.
                            unsafe {
                                let sum = match start {
                                    Start::Zero => sums[i][j],
                                    Start::Row(row) => {
                                        $sum($get(row.as_ptr().wrapping_add(j * $lanes), part), sums[i][j])
                                    }
                                    Start::Out => $sum($get(out, part), sums[i][j]),
                                };
                                $put(out, part, sum);
                            }
                        }
                    }
                }
            }
        };
    }

    /// Masked stores are slow: whole vectors are stored whole.
    ///
    /// # Safety
    /// The lanes of `part` can be written.
    #[inline]
    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "a vector store through a pointer")]
    unsafe fn store16(to: *mut f32, part: __mmask16, sum: __m512) {
        // SAFETY: the caller's.
        unsafe {
            if part == u16::MAX { _mm512_storeu_ps(to, sum) } else { _mm512_mask_storeu_ps(to, part, sum) }
        }
    }

    /// The lanes of vector j that are among the columns.
    #[inline(always)]
    fn lanes16(columns: usize, j: usize) -> __mmask16 {
        ((1u32 << (columns - (16 * j).min(columns)).min(16)) - 1) as __mmask16
    }

    inner_loop!(
        wide,
        "avx512f",
        f32,
        8,
        16,
        _mm512_setzero_ps(),
        |from| _mm512_loadu_ps(from),
        |x| _mm512_set1_ps(x),
        |sum, a, b| _mm512_fmadd_ps(a, b, sum),
        |a, b| _mm512_add_ps(a, b),
        lanes16,
        |from, part| _mm512_maskz_loadu_ps(part, from),
        |to, part, sum| store16(to, part, sum)
    );

    inner_loop!(
        brain,
        "avx512f,avx512bw,avx512bf16",
        u32,
        8,
        16,
        _mm512_setzero_ps(),
        |from: *const u32| _mm512_loadu_si512(from.cast()),
        |x: u32| _mm512_set1_epi32(x.cast_signed()),
        |sum, a, b| _mm512_dpbf16_ps(
            sum,
            std::mem::transmute::<__m512i, __m512bh>(a),
            std::mem::transmute::<__m512i, __m512bh>(b)
        ),
        |a, b| _mm512_add_ps(a, b),
        lanes16,
        |from, part| _mm512_maskz_loadu_ps(part, from),
        |to, part, sum| store16(to, part, sum)
    );

    /// How many lanes of vector j are among the columns.
    #[inline(always)]
    fn lanes8(columns: usize, j: usize) -> usize {
        (columns - (8 * j).min(columns)).min(8)
    }

    /// −1 in each of the first lanes.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn mask8(lanes: usize) -> __m256i {
        _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
    }

    /// Masked loads and stores are slow: whole vectors are loaded and stored whole.
    ///
    /// # Safety
    /// So many lanes can be read.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    #[expect(unsafe_code, reason = "a vector load through a pointer")]
    unsafe fn load8(from: *const f32, lanes: usize) -> __m256 {
        // SAFETY: the caller's.
        unsafe { if lanes == 8 { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, mask8(lanes)) } }
    }

    /// # Safety
    /// So many lanes can be written.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    #[expect(unsafe_code, reason = "a vector store through a pointer")]
    unsafe fn store8(to: *mut f32, lanes: usize, sum: __m256) {
        // SAFETY: the caller's.
        unsafe {
            if lanes == 8 { _mm256_storeu_ps(to, sum) } else { _mm256_maskstore_ps(to, mask8(lanes), sum) }
        }
    }

    inner_loop!(
        narrow,
        "avx2,fma",
        f32,
        6,
        8,
        _mm256_setzero_ps(),
        |from| _mm256_loadu_ps(from),
        |x| _mm256_set1_ps(x),
        |sum, a, b| _mm256_fmadd_ps(a, b, sum),
        |a, b| _mm256_add_ps(a, b),
        lanes8,
        |from, lanes| load8(from, lanes),
        |to, lanes, sum| store8(to, lanes, sum)
    );

    /// A tile whose inner loop is compiled for each number of vectors.
    macro_rules! tile {
        ($name:ident, $number:ty, $rows:literal, $lanes:literal, [$($vectors:literal),*], $loop:ident) => {
            impl Tile for $name {
                type Number = $number;
                const ROWS: usize = $rows;
                const LANES: usize = $lanes;
                const VECTORS: usize = [$($vectors),*].len();

                #[inline]
                fn multiply(
                    depth: usize,
                    left: Left<'_, $number>,
                    panel: (&[$number], usize),
                    target: Target<'_>,
                    start: Start<'_>,
                ) {
                    check::<Self>(depth, &left, panel, &target, &start);
                    let (panel, vectors) = (panel.0.as_ptr(), panel.1 / $lanes);
                    #[expect(unsafe_code, reason = "bounds are asserted once, outside the innermost loop")]
                    // SAFETY: `check` asserted that all reads and writes are in bounds, and this tile is only chosen
                    // where the processor was seen to have its instructions.
                    unsafe {
                        match vectors {
                            $($vectors => $loop::<$vectors>(depth, left, panel, target, start),)*
                            _ => unreachable!("`check` allows no other width"),
                        }
                    }
                }
            }
        };
    }

    tile!(Wide, f32, 8, 16, [1, 2, 3], wide);
    tile!(Brain, u32, 8, 16, [1, 2, 3], brain);
    tile!(Narrow, f32, 6, 8, [1, 2], narrow);
}
