//! Packing with AVX-512: sixteen lines at a time, turned in registers if they lie along the depth.

use std::arch::is_x86_feature_detected as has;
use std::arch::x86_64::*;

use super::{Lines, check};

/// The first so many of sixteen lanes.
fn first(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

/// The first lanes of a vector. Masked stores are slow: whole and half vectors are stored without one.
///
/// # Safety
/// `to` can be written for so many numbers.
#[inline]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "a vector store through a pointer")]
unsafe fn store(to: *mut i32, lanes: __mmask16, x: __m512i) {
    // SAFETY: the caller's.
    unsafe {
        match lanes {
            0xffff => _mm512_storeu_si512(to.cast(), x),
            0x00ff => _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(x)),
            _ => _mm512_mask_storeu_epi32(to, lanes, x),
        }
    }
}

/// Whether the processor could do it; the lines or the depths must be neighbours in memory.
pub(super) fn fill_f32(from: Lines<'_>, width: usize, out: &mut [f32]) -> bool {
    if !has!("avx512f") {
        return false;
    }
    check(&from, width, 1, out.len());
    #[expect(unsafe_code, reason = "bounds are asserted once, outside the loops")]
    // SAFETY: `check` asserted the bounds, and the processor has the instructions.
    unsafe {
        if from.line_step == 1 { copy(from, width, out) } else { turn(from, width, out) }
    }
    true
}

/// As [`fill_f32`], rounding to pairs of bf16.
pub(super) fn fill_bf16(from: Lines<'_>, width: usize, out: &mut [u32]) -> bool {
    if !(has!("avx512f") && has!("avx512bw") && has!("avx512bf16")) {
        return false;
    }
    check(&from, width, 2, out.len());
    #[expect(unsafe_code, reason = "bounds are asserted once, outside the loops")]
    // SAFETY: `check` asserted the bounds, and the processor has the instructions.
    unsafe {
        if from.line_step == 1 { copy_pairs(from, width, out) } else { turn_pairs(from, width, out) }
    }
    true
}

/// One row to pairs of bf16, if the processor can; the next rows start `step` later each.
pub(super) fn round_row(values: &[f32], step: usize, out: &mut [u32]) -> bool {
    if !(has!("avx512f") && has!("avx512bw") && has!("avx512bf16")) {
        return false;
    }
    assert!(out.len() >= values.len().div_ceil(2), "a row is too short");
    #[expect(unsafe_code, reason = "bounds are asserted once, outside the loop")]
    // SAFETY: the lengths were just asserted, and the processor has the instructions.
    unsafe {
        round(values, step, out);
    }
    true
}

/// # Safety
/// `out` holds half as many numbers, rounded up.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[expect(unsafe_code, reason = "vector loads and stores through pointers")]
unsafe fn round(values: &[f32], step: usize, out: &mut [u32]) {
    for at in (0..values.len()).step_by(32) {
        let left = values.len() - at;
        let ahead = values.as_ptr().wrapping_add(2 * step + at).cast();
        _mm_prefetch::<_MM_HINT_T0>(ahead);
        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(64));
        // SAFETY: the masks keep within both slices.
        unsafe {
            let pairs = pairs_along(values.as_ptr().add(at), left);
            store(out.as_mut_ptr().add(at / 2).cast(), first(left.div_ceil(2)), pairs);
        }
    }
}

/// Sixteen pairs of neighbours, 0 past `left` numbers.
///
/// # Safety
/// `from` can be read for `left` numbers, or for 32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[expect(unsafe_code, reason = "vector loads through pointers, and bf16 seen as plain bits")]
unsafe fn pairs_along(from: *const f32, left: usize) -> __m512i {
    // SAFETY: the masks keep within `left`; both vector types are 512 plain bits.
    unsafe {
        let low = _mm512_maskz_loadu_ps(first(left), from);
        let high = _mm512_maskz_loadu_ps(first(left.saturating_sub(16)), from.wrapping_add(16));
        std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
    }
}

/// Pairs of (a, b), lane by lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[expect(unsafe_code, reason = "bf16 seen as plain bits")]
fn pairs_across(a: __m512, b: __m512) -> __m512i {
    // SAFETY: both vector types are 512 plain bits.
    let halves = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a)) };
    let sixteens = _mm512_set1_epi32(16 << 16);
    let order = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let both = _mm512_or_si512(order, _mm512_slli_epi32::<16>(order)); // (i, i)
    _mm512_permutexvar_epi16(_mm512_add_epi16(both, sixteens), halves) // (i, i + 16)
}

/// Copies 8 numbers, or whole vectors of 16.
///
/// # Safety
/// So many numbers can be read and written.
#[inline]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "vector loads and stores through pointers")]
unsafe fn copy_whole(from: *const f32, to: *mut f32, count: usize) {
    // SAFETY: the caller's.
    unsafe {
        if count == 8 {
            return _mm256_storeu_ps(to, _mm256_loadu_ps(from));
        }
        for at in (0..count).step_by(16) {
            _mm512_storeu_ps(to.add(at), _mm512_loadu_ps(from.add(at)));
        }
    }
}

/// # Safety
/// `check` has passed, and lines are neighbours.
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "vector loads and stores through pointers")]
unsafe fn copy(from: Lines<'_>, width: usize, out: &mut [f32]) {
    let (values, out) = (from.values.as_ptr(), out.as_mut_ptr());
    if from.lines == width && (width == 8 || width.is_multiple_of(16)) {
        for p in 0..from.depth {
            // SAFETY: `check` has passed, and all lines of the panel are there.
            unsafe { copy_whole(values.add(p * from.depth_step), out.add(p * width), width) };
        }
        return;
    }
    for p in 0..from.depth {
        for line in (0..width).step_by(16) {
            // SAFETY: the masks keep within the lines and the width.
            unsafe {
                let read = first(from.lines.saturating_sub(line));
                let x = _mm512_maskz_loadu_ps(read, values.wrapping_add(p * from.depth_step + line));
                let to = out.add(p * width + line).cast();
                store(to, first(width - line), _mm512_castps_si512(x));
            }
        }
    }
}

/// # Safety
/// `check` has passed, and lines are neighbours.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[expect(unsafe_code, reason = "vector loads and stores through pointers")]
unsafe fn copy_pairs(from: Lines<'_>, width: usize, out: &mut [u32]) {
    let (values, out) = (from.values.as_ptr(), out.as_mut_ptr());
    for at in 0..from.depth.div_ceil(2) {
        for line in (0..width).step_by(16) {
            // SAFETY: the masks keep within the lines, the depth and the width.
            unsafe {
                let read = first(from.lines.saturating_sub(line));
                let start = values.wrapping_add(2 * at * from.depth_step + line);
                let second = if 2 * at + 1 < from.depth { read } else { 0 };
                let a = _mm512_maskz_loadu_ps(read, start);
                let b = _mm512_maskz_loadu_ps(second, start.wrapping_add(from.depth_step));
                let to = out.add(at * width + line).cast();
                store(to, first(width - line), pairs_across(a, b));
            }
        }
    }
}

/// # Safety
/// `check` has passed, and depths are neighbours.
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "vector loads and stores through pointers")]
unsafe fn turn(from: Lines<'_>, width: usize, out: &mut [f32]) {
    for line in (0..width).step_by(16) {
        for p in (0..from.depth).step_by(16) {
            let (mut rows, left) = ([_mm512_setzero_si512(); 16], from.depth - p);
            for (row, at) in rows.iter_mut().zip(line..from.lines) {
                // SAFETY: line `at` has `left` numbers from depth p on.
                unsafe {
                    let start = from.values.as_ptr().add(at * from.line_step + p);
                    *row = _mm512_castps_si512(_mm512_maskz_loadu_ps(first(left), start));
                }
            }
            for (at, row) in transposed(rows).into_iter().enumerate().take(left) {
                // SAFETY: depth p + at is in the panel, and the mask keeps within its width.
                unsafe {
                    let to = out.as_mut_ptr().add((p + at) * width + line).cast();
                    store(to, first(width - line), row);
                }
            }
        }
    }
}

/// # Safety
/// `check` has passed, and depths are neighbours.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[expect(unsafe_code, reason = "vector loads and stores through pointers")]
unsafe fn turn_pairs(from: Lines<'_>, width: usize, out: &mut [u32]) {
    let pairs = from.depth.div_ceil(2);
    for line in (0..width).step_by(16) {
        for at in (0..pairs).step_by(16) {
            let (mut rows, left) = ([_mm512_setzero_si512(); 16], from.depth - 2 * at);
            for (row, line) in rows.iter_mut().zip(line..from.lines) {
                // SAFETY: the line has `left` numbers from this depth on.
                unsafe {
                    *row = pairs_along(from.values.as_ptr().add(line * from.line_step + 2 * at), left);
                }
            }
            for (row, at) in transposed(rows).into_iter().zip(at..pairs) {
                // SAFETY: this pair is in the panel, and the mask keeps within its width.
                unsafe {
                    let to = out.as_mut_ptr().add(at * width + line).cast();
                    store(to, first(width - line), row);
                }
            }
        }
    }
}

/// Sixteen by sixteen numbers of 32 bits, rows and columns exchanged: pairs, quadruples, then quarters of a vector.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    let (mut a, mut b) = (rows, rows);
    for i in 0..8 {
        b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
    }
    for i in (0..16).step_by(4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    for j in 0..4 {
        b[j] = _mm512_shuffle_i32x4::<0x88>(a[j], a[j + 4]);
        b[j + 4] = _mm512_shuffle_i32x4::<0xdd>(a[j], a[j + 4]);
        b[j + 8] = _mm512_shuffle_i32x4::<0x88>(a[j + 8], a[j + 12]);
        b[j + 12] = _mm512_shuffle_i32x4::<0xdd>(a[j + 8], a[j + 12]);
    }
    for j in 0..4 {
        a[j] = _mm512_shuffle_i32x4::<0x88>(b[j], b[j + 8]);
        a[j + 8] = _mm512_shuffle_i32x4::<0xdd>(b[j], b[j + 8]);
        a[j + 4] = _mm512_shuffle_i32x4::<0x88>(b[j + 4], b[j + 12]);
        a[j + 12] = _mm512_shuffle_i32x4::<0xdd>(b[j + 4], b[j + 12]);
    }
    a
}
