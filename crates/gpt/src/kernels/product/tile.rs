//! The inner loops: a few rows by a few columns, held in registers over the whole depth.

use std::borrow::Cow;

use super::pack::Fill;

/// A packed number: one f32, or a pair of bf16.
pub(crate) trait Number: Copy + Default + Send + Sync + 'static {
    /// Terms of the sum in one number.
    const TERMS: usize;

    /// Packs terms; the second is for pairs.
    fn of(terms: [f32; 2]) -> Self;

    /// Rows of these numbers from contiguous rows of f32, and the step between them.
    fn rows<'a>(values: &'a [f32], step: usize, rows: usize, depth: usize) -> (Cow<'a, [Self]>, usize);
}

/// How the left operand of a tile lies in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Row by row, so far apart.
    Rows { step: usize },
    /// All rows of one depth, then those of the next.
    Interleaved,
}

/// A tile: `out[i, j]` = Σ over depth of a[i, p]·b[p, j].
#[expect(private_bounds, reason = "`Fill` says how panels are filled, which is nobody else's business")]
pub(crate) trait Tile: Send + Sync + 'static {
    /// What is multiplied.
    type Number: Fill;
    /// Rows of the tile.
    const ROWS: usize;
    /// Columns of the tile.
    const COLUMNS: usize;

    /// Writes `[ROWS, COLUMNS]`; b is interleaved.
    fn multiply(depth: usize, a: &[Self::Number], order: Order, b: &[Self::Number], out: &mut [f32]);
}

/// (step between rows, step between depths) of an order, once the operands are known to be long enough.
#[inline(always)]
fn steps<T: Tile>(
    depth: usize,
    a: &[T::Number],
    order: Order,
    b: &[T::Number],
    out: &[f32],
) -> (usize, usize) {
    let (row, deep) = match order {
        Order::Rows { step } => (step, 1),
        Order::Interleaved => (1, T::ROWS),
    };
    assert!(
        depth > 0 && a.len() > (T::ROWS - 1) * row + (depth - 1) * deep,
        "a tile's left operand is too short"
    );
    assert!(b.len() >= depth * T::COLUMNS && out.len() >= T::ROWS * T::COLUMNS, "a tile is too short");
    (row, deep)
}

/// Any processor.
pub(crate) struct Plain;

impl Tile for Plain {
    type Number = f32;
    const ROWS: usize = 4;
    const COLUMNS: usize = 8;

    fn multiply(depth: usize, a: &[f32], order: Order, b: &[f32], out: &mut [f32]) {
        let (row, deep) = steps::<Self>(depth, a, order, b, out);
        let mut sums = [[0f32; Self::COLUMNS]; Self::ROWS];
        for (p, b) in b.chunks_exact(Self::COLUMNS).take(depth).enumerate() {
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = a[i * row + p * deep];
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
        }
        out[..Self::ROWS * Self::COLUMNS].copy_from_slice(sums.as_flattened());
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Brain, Narrow, Wide};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Order, Tile, steps};

    /// AVX-512: 8 rows by 48 columns.
    pub(crate) struct Wide;
    /// AVX2 with FMA: 6 rows by 16 columns.
    pub(crate) struct Narrow;
    /// AVX-512 with bf16: 8 rows by 48 columns.
    pub(crate) struct Brain;

    impl Tile for Wide {
        type Number = f32;
        const ROWS: usize = 8;
        const COLUMNS: usize = 48;

        #[inline]
        fn multiply(depth: usize, a: &[f32], order: Order, b: &[f32], out: &mut [f32]) {
            let (row, deep) = steps::<Self>(depth, a, order, b, out);
            #[expect(unsafe_code, reason = "the innermost loop; bounds are asserted once, outside it")]
            // SAFETY: `steps` asserted that all reads and writes are in bounds, and a `Wide` is only made where AVX-512F
            // was detected.
            unsafe {
                wide(depth, a.as_ptr(), row, deep, b.as_ptr(), out.as_mut_ptr());
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "vector loads and stores through pointers")]
    /// # Safety
    /// a, b and out are readable or writable over the whole tile; see `steps`.
    unsafe fn wide(depth: usize, a: *const f32, row: usize, deep: usize, b: *const f32, out: *mut f32) {
        let mut sums = [[_mm512_setzero_ps(); 3]; 8];
        for p in 0..depth {
            // SAFETY: p < depth, so b has 48 numbers from p·48, and a has row i at i·row + p·deep for each i < 8.
            unsafe {
                let panel = b.add(p * 48);
                let right =
                    [_mm512_loadu_ps(panel), _mm512_loadu_ps(panel.add(16)), _mm512_loadu_ps(panel.add(32))];
                let left = a.add(p * deep);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*left.add(i * row));
                    for (sum, &right) in sums.iter_mut().zip(&right) {
                        *sum = _mm512_fmadd_ps(x, right, *sum);
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                // SAFETY: out holds 8 rows of 48.
                unsafe { _mm512_storeu_ps(out.add(i * 48 + j * 16), *sum) };
            }
        }
    }

    impl Tile for Narrow {
        type Number = f32;
        const ROWS: usize = 6;
        const COLUMNS: usize = 16;

        #[inline]
        fn multiply(depth: usize, a: &[f32], order: Order, b: &[f32], out: &mut [f32]) {
            let (row, deep) = steps::<Self>(depth, a, order, b, out);
            #[expect(unsafe_code, reason = "the innermost loop; bounds are asserted once, outside it")]
            // SAFETY: `steps` asserted that all reads and writes are in bounds, and a `Narrow` is only made where AVX2
            // and FMA were detected.
            unsafe {
                narrow(depth, a.as_ptr(), row, deep, b.as_ptr(), out.as_mut_ptr());
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    #[expect(unsafe_code, reason = "vector loads and stores through pointers")]
    /// # Safety
    /// a, b and out are readable or writable over the whole tile; see `steps`.
    unsafe fn narrow(depth: usize, a: *const f32, row: usize, deep: usize, b: *const f32, out: *mut f32) {
        let mut sums = [[_mm256_setzero_ps(); 2]; 6];
        for p in 0..depth {
            // SAFETY: p < depth, so b has 16 numbers from p·16, and a has row i at i·row + p·deep for each i < 6.
            unsafe {
                let panel = b.add(p * 16);
                let right = [_mm256_loadu_ps(panel), _mm256_loadu_ps(panel.add(8))];
                let left = a.add(p * deep);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*left.add(i * row));
                    for (sum, &right) in sums.iter_mut().zip(&right) {
                        *sum = _mm256_fmadd_ps(x, right, *sum);
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                // SAFETY: out holds 6 rows of 16.
                unsafe { _mm256_storeu_ps(out.add(i * 16 + j * 8), *sum) };
            }
        }
    }

    impl Tile for Brain {
        type Number = u32;
        const ROWS: usize = 8;
        const COLUMNS: usize = 48;

        #[inline]
        fn multiply(depth: usize, a: &[u32], order: Order, b: &[u32], out: &mut [f32]) {
            let (row, deep) = steps::<Self>(depth, a, order, b, out);
            #[expect(unsafe_code, reason = "the innermost loop; bounds are asserted once, outside it")]
            // SAFETY: `steps` asserted that all reads and writes are in bounds, and a `Brain` is only made where
            // AVX-512F, BW and BF16 were detected.
            unsafe {
                brain(depth, a.as_ptr(), row, deep, b.as_ptr(), out.as_mut_ptr());
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[expect(unsafe_code, reason = "vector loads and stores through pointers, and bf16 pairs seen as such")]
    /// # Safety
    /// a, b and out are readable or writable over the whole tile; see `steps`.
    unsafe fn brain(depth: usize, a: *const u32, row: usize, deep: usize, b: *const u32, out: *mut f32) {
        let mut sums = [[_mm512_setzero_ps(); 3]; 8];
        for p in 0..depth {
            // SAFETY: p < depth, so b has 48 numbers from p·48, and a has row i at i·row + p·deep for each i < 8; both
            // vector types are 512 plain bits.
            unsafe {
                let panel = b.add(p * 48);
                let load = |from: usize| {
                    std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(panel.add(from).cast()))
                };
                let right = [load(0), load(16), load(32)];
                let left = a.add(p * deep);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let pair = _mm512_set1_epi32((*left.add(i * row)).cast_signed());
                    let pair = std::mem::transmute::<__m512i, __m512bh>(pair);
                    for (sum, &right) in sums.iter_mut().zip(&right) {
                        *sum = _mm512_dpbf16_ps(*sum, pair, right);
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                // SAFETY: out holds 8 rows of 48.
                unsafe { _mm512_storeu_ps(out.add(i * 48 + j * 16), *sum) };
            }
        }
    }
}
