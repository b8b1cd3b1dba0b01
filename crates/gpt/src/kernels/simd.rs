//! Plain loops that become wide vector code: one body, compiled for several instruction sets, chosen at run time.
//!
//! Sums run over sixteen lanes and then across the lanes, and a multiplication is fused with an addition where the code
//! says so and nowhere else. So the same bits come out on every machine and with any number of threads.

/// Compiles a function for AVX-512, AVX2 and the base instruction set, and calls the best the processor has.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn wide($($arg: $type),*) $(-> $result)? { plain($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn narrow($($arg: $type),*) $(-> $result)? { plain($($arg),*) }
                if std::arch::is_x86_feature_detected!("avx512f") {
                    #[expect(unsafe_code, reason = "the processor was just asked whether it has the instructions")]
                    // SAFETY: the only requirement of `wide` is AVX-512F, which was just detected.
                    return unsafe { wide($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    #[expect(unsafe_code, reason = "the processor was just asked whether it has the instructions")]
                    // SAFETY: the only requirement of `narrow` is AVX2 with FMA, which was just detected.
                    return unsafe { narrow($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}
pub(crate) use vectorised;

const LANES: usize = 16;

/// eˣ to 2·10⁻⁷ relative, branch-free. Inputs below −87 give about 10⁻³⁸, above 88 about 10³⁸.
///
/// # Source
/// Cephes `expf`: x = n·ln 2 + r with |r| ≤ ln 2 / 2, and a polynomial of degree 6 in r.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it rounds to an integer
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND); // its lowest bits are those of n
    let n = shifted - ROUND;
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let y = (p * r).mul_add(r, r + 1.0);
    y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23)) // 2ⁿ, without a conversion that saturates
}

/// sin(2π·turns) to 2·10⁻⁷ absolute, for |turns| < 2²².
#[inline(always)]
pub(crate) fn sin_turns(turns: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let r = turns - ((turns + ROUND) - ROUND); // [-1/2, 1/2]
    let folded = if r.abs() > 0.25 { 0.5_f32.copysign(r) - r } else { r }; // [-1/4, 1/4]
    let a = folded * std::f32::consts::TAU;
    let s = a * a;
    let p = -2.505_210_8e-8_f32;
    let p = p * s + 2.755_731_9e-6;
    let p = p * s - 1.984_127e-4;
    let p = p * s + 8.333_334e-3;
    let p = p * s - 1.666_666_7e-1;
    a + a * s * p
}

/// The lanes folded in halves: a short chain instead of one as long as there are lanes.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Σ xᵢ.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    fold(lanes, |a, b| a + b) + rest.iter().sum::<f32>()
}

/// Σ xᵢ·yᵢ.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in xs.zip(ys) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    fold(lanes, |a, b| a + b) + rest
}

/// max xᵢ, −∞ for none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    let most = |a: f32, b: f32| if a > b { a } else { b };
    rest.iter().copied().fold(fold(lanes, most), most)
}

/// y += a·x.
#[inline(always)]
pub(crate) fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// Replaces x by exp(x − max x) and returns (max x, Σ exp(x − max x)).
#[inline(always)]
pub(crate) fn exp_shifted(x: &mut [f32]) -> (f32, f32) {
    let top = max(x);
    for value in x.iter_mut() {
        *value = exp(*value - top);
    }
    (top, sum(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomials_are_as_exact_as_they_say() {
        for i in -8_000..8_000 {
            let x = i as f32 * 0.01;
            let relative = (f64::from(exp(x)) - f64::from(x).exp()) / f64::from(x).exp();
            assert!(relative.abs() < 3e-7, "exp({x}): {relative}");
            let sine = f64::from(sin_turns(x)) - (f64::from(x) * std::f64::consts::TAU).sin();
            assert!(sine.abs() < 3e-7, "sin({x} turns): {sine}");
        }
    }
}
