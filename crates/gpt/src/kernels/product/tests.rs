//! Every product of this processor against sums in f64, over shapes with and without tails.

use proptest::prelude::*;

use super::*;
use crate::generator::Generator;

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut generator = Generator::new(seed, 0);
    (0..count).map(|_| generator.normal() as f32).collect()
}

fn element(view: View<'_>, i: usize, j: usize) -> f64 {
    f64::from(view.values[i * view.row + j * view.column])
}

/// The sum, and the sum of sizes that bounds its error.
fn exact(a: View<'_>, b: View<'_>, i: usize, j: usize) -> (f64, f64) {
    (0..a.columns).fold((0.0, 0.0), |(sum, size), p| {
        let term = element(a, i, p) * element(b, p, j);
        (sum + term, size + term.abs())
    })
}

fn agrees(instructions: Instructions, a: View<'_>, b: View<'_>) {
    let (m, n) = (a.rows, b.columns);
    let packed = Packed::with(b, instructions);
    let mut out = vec![f32::NAN; m * n];
    packed.multiply(a, &mut out, Start::Zero, |_, _| {});
    let mut twice = out.clone();
    packed.multiply(a, &mut twice, Start::Out, |_, _| {});
    let once = |start, from: &[f32]| {
        let mut out = from.to_vec();
        multiply_into((a, b), instructions, Sheet::new(&mut out, m, n), start, |_, _| {});
        out
    };
    assert_eq!(once(Start::Zero, &vec![f32::NAN; m * n]), out, "{instructions:?}: packed or not");
    assert_eq!(once(Start::Out, &out), twice, "{instructions:?}: packed or not, added");
    let precision = if instructions.rounds() { 1.0 / 128.0 } else { 3e-6 };
    for i in 0..m {
        for j in 0..n {
            let (sum, size) = exact(a, b, i, j);
            let found = f64::from(out[i * n + j]);
            let shape = (m, a.columns, n);
            assert!(
                (found - sum).abs() <= precision * size + 1e-6,
                "{instructions:?} {shape:?}: {found} {sum}"
            );
            let doubled = f64::from(twice[i * n + j]);
            assert!((doubled - 2.0 * found).abs() <= 1e-5 * size + 1e-6, "{instructions:?} {shape:?} adds");
        }
    }
}

#[test]
fn every_kernel_computes_the_product_for_whole_tiles_tails_and_all_orders_of_memory() {
    let sizes = [1, 2, 5, 8, 17, 48, 50, 97];
    let depths = [1, 2, 3, 32, 255, 256, 257, 513];
    for &instructions in Instructions::available() {
        for (at, &m) in sizes.iter().enumerate() {
            for (step, &k) in depths.iter().enumerate() {
                let n = sizes[(3 * at + step) % sizes.len()];
                let (a, b) = (random(m * k, 1), random(k * n, 2));
                let (plain_a, plain_b) = (View::new(&a, m, k), View::new(&b, k, n));
                agrees(instructions, plain_a, plain_b);
                agrees(instructions, View::new(&a, k, m).transposed(), plain_b);
                agrees(instructions, plain_a, View::new(&b, n, k).transposed());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_of_any_shape_and_order_of_memory_are_those_in_f64(
        (m, k, n) in (1usize..70, 1usize..530, 1usize..130),
        (seed, turned) in (any::<u64>(), 0u8..4),
    ) {
        let (a, b) = (random(m * k, seed), random(k * n, seed ^ 1));
        let a = if turned & 1 == 0 { View::new(&a, m, k) } else { View::new(&a, k, m).transposed() };
        let b = if turned & 2 == 0 { View::new(&b, k, n) } else { View::new(&b, n, k).transposed() };
        for &instructions in Instructions::available() {
            agrees(instructions, a, b);
        }
    }

    #[test]
    fn parts_of_any_shape_touch_nothing_beside_them(
        (m, k, n) in (1usize..40, 1usize..300, 1usize..120),
        (depth, columns, beside) in (1usize..300, 1usize..120, 0usize..20),
    ) {
        let (depth, columns, step) = (depth.min(k), columns.min(n), n + beside);
        let (a, b) = (random(m * k, 8), random(k * n, 9));
        for &instructions in Instructions::available() {
            let packed = Packed::with(View::new(&b, k, n), instructions);
            let mut out = vec![7f32; m * step];
            packed.multiply_here(View::strided(&a, (m, depth), k), (&mut out, step, columns), Start::Zero);
            let (part, shorter) = (View::strided(&a, (m, depth), k), View::strided(&b, (depth, n), n));
            for (i, row) in out.chunks_exact(step).enumerate() {
                prop_assert!(row[columns..].iter().all(|x| *x == 7.0), "{:?}", instructions);
                let (sum, size) = exact(part, shorter, i, columns - 1);
                let bound = if instructions.rounds() { 1.0 / 128.0 } else { 3e-6 };
                let gap = (f64::from(row[columns - 1]) - sum).abs();
                prop_assert!(gap <= bound * size + 1e-6, "{:?}: {}", instructions, gap);
            }
        }
    }
}

#[test]
fn a_part_of_a_product_starts_from_what_it_is_told_and_leaves_the_rest_alone() {
    let (m, k, n) = (19, 300, 70);
    let (a, b, bias) = (random(m * k, 5), random(k * n, 6), random(n, 7));
    let (a, b) = (View::new(&a, m, k), View::new(&b, k, n));
    for &instructions in Instructions::available() {
        let packed = Packed::with(b, instructions);
        for (depth, columns) in [(k, n), (257, 50), (3, 1), (131, 16)] {
            let part = View::strided(a.values, (m, depth), k);
            let mut out = vec![7f32; m * 80];
            packed.multiply_here(part, (&mut out, 80, columns), Start::Row(&bias));
            let shorter = View::strided(b.values, (depth, n), n);
            for (i, row) in out.chunks_exact(80).enumerate() {
                assert!(row[columns..].iter().all(|x| *x == 7.0), "{instructions:?} writes beside its part");
                for j in 0..columns {
                    let (sum, size) = exact(part, shorter, i, j);
                    let gap = (f64::from(row[j]) - sum - f64::from(bias[j])).abs();
                    let bound = if instructions.rounds() { 1.0 / 128.0 } else { 3e-6 };
                    assert!(gap <= bound * size + 1e-6, "{instructions:?} ({depth}, {columns}): {gap}");
                }
            }
        }
    }
}

#[test]
fn a_product_of_no_depth_is_what_it_started_from_and_one_without_rows_is_nothing() {
    for &instructions in Instructions::available() {
        let packed = Packed::with(View::new(&[], 0, 3), instructions);
        let mut out = [5f32; 6];
        packed.multiply(View::new(&[], 2, 0), &mut out, Start::Row(&[1.0, 2.0, 3.0]), |_, _| {});
        assert_eq!(out, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        packed.multiply(View::new(&[], 2, 0), &mut out, Start::Zero, |_, _| {});
        assert_eq!(out, [0.0; 6]);
        Packed::with(View::new(&[1.0; 6], 2, 3), instructions).multiply(
            View::new(&[], 0, 2),
            &mut [],
            Start::Zero,
            |_, _| {},
        );
        let once = |a: View<'_>, b: View<'_>, out: &mut [f32], start| {
            multiply_into((a, b), instructions, Sheet::new(out, a.rows, b.columns), start, |_, _| {});
        };
        once(View::new(&[], 2, 0), View::new(&[], 0, 3), &mut out, Start::Row(&[1.0, 2.0, 3.0]));
        assert_eq!(out, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        once(View::new(&[], 2, 0), View::new(&[], 0, 3), &mut out, Start::Out);
        assert_eq!(out, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        once(View::new(&[], 0, 2), View::new(&[1.0; 6], 2, 3), &mut [], Start::Zero);
        once(View::new(&[1.0; 4], 2, 2), View::new(&[], 2, 0), &mut [], Start::Zero);
    }
}

#[test]
fn a_product_is_told_of_each_number_once_and_at_its_place() {
    let (m, k, n) = (83, 130, 467);
    let (a, b, bias) = (random(m * k, 5), random(k * n, 6), random(n, 7));
    let (a, b) = (View::new(&a, m, k), View::new(&b, k, n));
    let add_place = |before: usize, row: &mut [f32]| {
        row.iter_mut().zip(before..).for_each(|(x, at)| *x += at as f32);
    };
    for &instructions in Instructions::available() {
        let mut plain = vec![0f32; m * n];
        let packed = Packed::with(b, instructions);
        packed.multiply(a, &mut plain, Start::Row(&bias), |_, _| {});
        let expected: Vec<f32> = plain.iter().zip(0..).map(|(x, at)| x + at as f32).collect();
        let mut out = vec![0f32; m * n];
        packed.multiply(a, &mut out, Start::Row(&bias), add_place);
        assert_eq!(out, expected, "{instructions:?}");
        let sheet = Sheet::new(&mut out, m, n);
        multiply_into((a, b), instructions, sheet, Start::Row(&bias), add_place);
        assert_eq!(out, expected, "{instructions:?}");
    }
}

#[test]
fn long_factors_go_slab_by_slab_and_many_rows_through_packed_panels_to_the_same_bits() {
    for (m, k, n) in [(9, 5_003, 50), (FEW_ROWS + 37, 20, 33)] {
        let (a, b) = (random(m * k, 3), random(k * n, 4));
        let (a, b) = (View::new(&a, m, k), View::new(&b, k, n));
        for precision in [Precision::F32, Precision::Bf16] {
            let mut out = vec![0f32; m * n];
            Packed::new(b, precision).multiply(a, &mut out, Start::Zero, |_, _| {});
            let mut added = multiply(a, b, precision);
            assert_eq!(added, out, "{precision:?}");
            accumulate((a, b), precision, &mut added);
            Packed::new(b, precision).multiply(a, &mut out, Start::Out, |_, _| {});
            assert_eq!(added, out, "{precision:?}");
            let mut made = Vec::new();
            accumulate((a, b), precision, &mut made);
            assert_eq!(made, multiply(a, b, precision));
        }
    }
}

#[test]
fn a_sheet_is_cut_without_overlap_and_refuses_what_is_beyond_it() {
    let mut values = [0f32; 7 * 9];
    let sheet = Sheet::new(&mut values, 7, 9);
    for (at, part) in sheet.cut_columns([4, 2, 3]).into_iter().enumerate() {
        for (run, mut part) in part.cut_rows(3).into_iter().enumerate() {
            (0..part.rows()).for_each(|row| {
                part.row(row).iter_mut().for_each(|x| *x += (10 * run + at + 1) as f32);
            });
        }
    }
    let expected = (0..7).flat_map(|row| (0..9).map(move |column| (row, column)));
    let expected: Vec<f32> =
        expected.map(|(row, column)| (10 * (row / 3) + [1, 1, 1, 1, 2, 2, 3, 3, 3][column]) as f32).collect();
    assert_eq!(values.as_slice(), expected);
    let refused = |f: &dyn Fn(Sheet<'_>)| {
        let mut values = [0f32; 6];
        let caught =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(Sheet::new(&mut values, 2, 3))));
        caught.is_err()
    };
    assert!(refused(&|mut sheet| sheet.tile((1, 2), (0, 3)).put(0, 0, 1.0)));
    assert!(refused(&|mut sheet| sheet.tile((0, 2), (1, 3)).put(0, 0, 1.0)));
    assert!(refused(&|mut sheet| sheet.tile((0, 1), (0, 1)).put(1, 0, 1.0)));
    assert!(refused(&|mut sheet| sheet.row(2).fill(0.0)));
    assert!(refused(&|sheet| drop(sheet.cut_columns([2, 2]))));
    assert!(refused(&|_| Sheet::strided(&mut [0.0; 5], (2, 3), 3).begin(Start::Out)));
    assert!(refused(&|_| Sheet::new(&mut [0.0; 7], 2, 3).begin(Start::Out)));
}

#[test]
fn a_product_has_the_same_bits_on_one_thread_and_on_three_and_with_wide_and_narrow_vectors() {
    let (m, k, n) = (203, 301, 99);
    let (a, b) = (random(m * k, 3), random(k * n, 4));
    let (a, b) = (View::new(&a, m, k), View::new(&b, k, n));
    let on = |threads: usize, instructions| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut out, mut once) = (vec![0f32; m * n], vec![0f32; m * n]);
            Packed::with(b, instructions).multiply(a, &mut out, Start::Zero, |_, _| {});
            multiply_into((a, b), instructions, Sheet::new(&mut once, m, n), Start::Zero, |_, _| {});
            assert_eq!(out, once, "{instructions:?}");
            out
        })
    };
    for &instructions in Instructions::available() {
        assert_eq!(on(1, instructions), on(3, instructions), "{instructions:?}");
    }
    #[cfg(target_arch = "x86_64")]
    if [Instructions::Wide, Instructions::Narrow].iter().all(|i| Instructions::available().contains(i)) {
        assert_eq!(on(2, Instructions::Wide), on(2, Instructions::Narrow));
    }
}

#[test]
fn rounding_to_bf16_goes_to_the_nearest_even() {
    use super::tile::Number;
    assert!(f32::from_bits(u32::of([f32::from_bits(0x7fff_ffff), 0.0]) << 16).is_nan());
    assert_eq!(u32::of([1.0, -2.0]), 0x3f80 | 0xc000 << 16);
    assert_eq!(u32::of([1.0 + 1.0 / 256.0, 0.0]), 0x3f80, "half-way to the even one below");
    assert_eq!(u32::of([1.0 + 3.0 / 256.0, 0.0]), 0x3f82, "half-way to the even one above");
}
