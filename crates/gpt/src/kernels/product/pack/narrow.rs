//! Packing with AVX2: eight lines at a time, turned in registers.

use std::arch::is_x86_feature_detected as has;
use std::arch::x86_64::*;

use super::{Lines, check};

/// Lines and depths that are turned at once.
const AT_ONCE: usize = 8;

/// Whether the processor could do it and the sizes are such: depths that are neighbours in memory, of as many lines as the panel is wide.
pub(super) fn turn_f32(from: Lines<'_>, width: usize, out: &mut [f32]) -> bool {
    if !has!("avx2") || from.depth_step != 1 || from.lines != width || !width.is_multiple_of(AT_ONCE) {
        return false;
    }
    check(&from, width, 1, out.len());
    let whole = from.depth / AT_ONCE * AT_ONCE;
    for line in (0..width).step_by(AT_ONCE) {
        for p in (0..whole).step_by(AT_ONCE) {
            #[expect(unsafe_code, reason = "bounds are asserted once, outside the loops")]
            // SAFETY: `check` asserted the bounds of all lines and depths, and the processor has the instructions.
            unsafe {
                let values = from.values.as_ptr().add(line * from.line_step + p);
                turn((values, from.line_step), (out.as_mut_ptr().add(p * width + line), width));
            }
        }
    }
    for (p, out) in out.chunks_exact_mut(width).enumerate().take(from.depth).skip(whole) {
        for (line, out) in out.iter_mut().enumerate() {
            *out = from.values[line * from.line_step + p];
        }
    }
    true
}

/// Eight rows of eight numbers, so far apart, become eight columns: pairs, quadruples, then halves of a vector.
///
/// # Safety
/// All of them can be read and written.
#[inline]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "vector loads and stores through pointers")]
unsafe fn turn((from, from_step): (*const f32, usize), (to, to_step): (*mut f32, usize)) {
    // SAFETY: the caller's.
    let a: [__m256; 8] = std::array::from_fn(|row| unsafe { _mm256_loadu_ps(from.add(row * from_step)) });
    let pairs =
        |i: usize| (_mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]), _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]));
    let ((b0, b1), (b2, b3), (b4, b5), (b6, b7)) = (pairs(0), pairs(1), pairs(2), pairs(3));
    let quadruples =
        |x: __m256, y: __m256| (_mm256_shuffle_ps::<0x44>(x, y), _mm256_shuffle_ps::<0xee>(x, y));
    let ((c0, c1), (c2, c3)) = (quadruples(b0, b2), quadruples(b1, b3));
    let ((c4, c5), (c6, c7)) = (quadruples(b4, b6), quadruples(b5, b7));
    for (row, (low, high)) in [(c0, c4), (c1, c5), (c2, c6), (c3, c7)].into_iter().enumerate() {
        // SAFETY: the caller's.
        unsafe {
            _mm256_storeu_ps(to.add(row * to_step), _mm256_permute2f128_ps::<0x20>(low, high));
            _mm256_storeu_ps(to.add((row + 4) * to_step), _mm256_permute2f128_ps::<0x31>(low, high));
        }
    }
}
