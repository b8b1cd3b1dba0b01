//! The adaptive window.

use super::Signal;
use crate::{Error, check};

/// Buckets of one size before two of them merge.
const PER_SIZE: usize = 5;
/// The shortest half of a cut.
const LEAST: f64 = 5.0;
/// Values before the first cut is tried.
const GRACE: u64 = 10;

/// 2ᵏ values: their sum and their sum of squared deviations.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    sum: f64,
    squares: f64,
}

/// ADWIN: a window that grows while its halves agree and starts anew when they do not.
///
/// At every `clock`-th value all cuts between buckets are tried: |mean₀ − mean₁| > √(2·h·σ²·ln(2·ln(n)/δ)) +
/// ⅔·h·ln(2·ln(n)/δ), h = 1/(n₀−4) + 1/(n₁−4). O(log n) memory. Sees means only.
/// # Source
/// Bifet & Gavaldà (2007), "Learning from time-changing data with adaptive windowing".
#[derive(Clone, Debug)]
pub struct Adwin {
    delta: f64,
    clock: u64,
    /// Sizes 1, 2, 4, …; in each the oldest bucket first.
    buckets: Vec<Vec<Bucket>>,
    seen: u64,
    width: f64,
    sum: f64,
    squares: f64,
}

impl Adwin {
    /// A detector with confidence `delta` (0.002 is usual) that looks at every `clock`-th value (32 is usual).
    ///
    /// ```
    /// use statistics::sequential::detectors::{Adwin, Signal};
    /// let mut adwin = Adwin::new(0.002, 32).unwrap();
    /// let mut found = (0..1_000).filter(|&i| {
    ///     adwin.observe(if i < 500 { 0.0 } else { 1.0 } + f64::from(i % 7) / 10.0).unwrap() == Signal::Drift
    /// });
    /// assert!((500..600).contains(&found.next().unwrap()));
    /// ```
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 < δ < 1.
    pub fn new(delta: f64, clock: u64) -> Result<Self, Error> {
        check::inside(delta, "delta", "in (0, 1)", delta > 0.0 && delta < 1.0)?;
        Ok(Self { delta, clock: clock.max(1), buckets: vec![], seen: 0, width: 0.0, sum: 0.0, squares: 0.0 })
    }

    /// Values in the window.
    pub fn width(&self) -> u64 {
        self.width as u64
    }

    /// The mean of the window; 0 if it is empty.
    pub fn mean(&self) -> f64 {
        if self.width > 0.0 { self.sum / self.width } else { 0.0 }
    }

    /// Takes a value. After [`Signal::Drift`] the window is empty.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] for a value that is not finite.
    pub fn observe(&mut self, x: f64) -> Result<Signal, Error> {
        check::finite(&[x], "values")?;
        self.seen += 1;
        self.insert(x);
        let looks = self.seen.is_multiple_of(self.clock) && self.width > GRACE as f64;
        if !looks || !self.is_cut() {
            return Ok(Signal::Stable);
        }
        *self = Self { buckets: vec![], seen: 0, width: 0.0, sum: 0.0, squares: 0.0, ..self.clone() };
        Ok(Signal::Drift)
    }

    fn insert(&mut self, x: f64) {
        if self.buckets.is_empty() {
            self.buckets.push(vec![]);
        }
        self.buckets[0].push(Bucket { sum: x, squares: 0.0 });
        if self.width > 0.0 {
            self.squares += self.width * (x - self.sum / self.width).powi(2) / (self.width + 1.0);
        }
        self.width += 1.0;
        self.sum += x;
        self.compress();
    }

    /// Merges the two oldest buckets of a size that has too many.
    fn compress(&mut self) {
        let mut size = 1.0;
        for level in 0.. {
            if self.buckets[level].len() <= PER_SIZE {
                return;
            }
            let oldest: Vec<Bucket> = self.buckets[level].drain(..2).collect();
            let [one, other] = [oldest[0], oldest[1]];
            let gap = one.sum / size - other.sum / size;
            let merged = Bucket {
                sum: one.sum + other.sum,
                squares: one.squares + other.squares + size * size * gap * gap / (2.0 * size),
            };
            if self.buckets.len() == level + 1 {
                self.buckets.push(vec![]);
            }
            self.buckets[level + 1].push(merged);
            size *= 2.0;
        }
    }

    /// Whether some cut between an older and a newer part of the window separates their means.
    fn is_cut(&self) -> bool {
        let (mut n, mut older) = (0.0, 0.0);
        for (level, buckets) in self.buckets.iter().enumerate().rev() {
            let size = 2f64.powi(level as i32);
            // The newest bucket of a size closes no older part: the next smaller ones follow it.
            for bucket in buckets.iter().take(buckets.len().saturating_sub(1)) {
                n += size;
                older += bucket.sum;
                if self.separates(n, older) {
                    return true;
                }
            }
            if let Some(last) = buckets.last() {
                n += size;
                older += last.sum;
                if level > 0 && self.separates(n, older) {
                    return true;
                }
            }
        }
        false
    }

    fn separates(&self, n: f64, older: f64) -> bool {
        let m = self.width - n;
        if n < LEAST || m < LEAST {
            return false;
        }
        let gap = (older / n - (self.sum - older) / m).abs();
        let level = (2.0 * self.width.ln() / self.delta).ln();
        let h = 1.0 / (n - LEAST + 1.0) + 1.0 / (m - LEAST + 1.0);
        let variance = self.squares / self.width;
        gap > (2.0 * h * variance * level).sqrt() + 2.0 / 3.0 * level * h
    }
}
