//! Months in which nothing happens.

use crate::draws::Dice;
use crate::model::{Rule, columns, watch};
use crate::world::Shift;

/// Hours of a month.
const MONTH: usize = 720;

/// What came of quiet months.
#[derive(Default)]
pub(crate) struct Quiet {
    pub(crate) months: usize,
    pub(crate) incidents: usize,
    pub(crate) months_with_one: usize,
    pub(crate) days_with_a_message: usize,
    /// Windows of single columns called drifted, and how many there were.
    pub(crate) drifted: Vec<u64>,
    pub(crate) hours: u64,
}

pub(crate) fn quiet(mean: u64, months: usize, first: u64) -> Quiet {
    let mut sum = Quiet { months, ..Quiet::default() };
    for seed in first..first + months as u64 {
        let mut dice = Dice::new(mean * 1_000_003 + seed);
        let mut all = columns(mean, &mut dice);
        let month = watch(&mut all, MONTH, mean, &|_, _| Shift::default(), &mut Rule::default(), &mut dice);
        let own = month.opened.len() - month.again;
        sum.incidents += own;
        sum.months_with_one += usize::from(own > 0);
        let mut days: Vec<usize> = month.opened.iter().chain(&month.closed).map(|hour| hour / 24).collect();
        days.sort_unstable();
        days.dedup();
        sum.days_with_a_message += days.len();
        sum.drifted.resize(month.drifted.len(), 0);
        sum.drifted.iter_mut().zip(&month.drifted).for_each(|(sum, own)| *sum += own);
        sum.hours += month.hours;
    }
    sum
}
