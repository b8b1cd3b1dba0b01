//! The questions that a reference profile gives rise to, and how a window answers them.

use super::Cause;
use crate::profile::{ColumnProfile, LevelProfile, NumberProfile};

/// Groups of equally many reference values that numbers are told apart by.
const GROUPS: usize = 20;
/// Levels that are asked about by name; the others are asked about together.
const NAMED: usize = 40;

/// A yes/no question about a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What it is about.
    pub cause: Cause,
    part: Part,
}

/// Which values the answer is yes for. Groups are those of [`Questions`].
#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// Numbers in the first so many groups.
    FirstGroups(usize),
    /// Numbers outside the groups from one to before another.
    Outside(usize, usize),
    /// Numbers of one group.
    Group(usize),
    /// Numbers below the reference's least, or above its greatest.
    Below,
    Above,
    /// Numbers beyond either end.
    Beyond,
    /// A level.
    Level(String),
    /// Levels that are not asked about by name, whether the reference saw them or not: of rare levels it saw too many
    /// and of the others too few.
    Rest,
    /// Levels that the reference never saw.
    Unseen,
    /// No value.
    Missing,
}

/// All questions about a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Questions {
    /// The questions, those of a cause together.
    pub(super) all: Vec<Question>,
    /// The bins at which groups of numbers end, exclusive.
    ends: Vec<usize>,
    /// Whether the reference had values below its first and above its last edge: infinities.
    infinite: (bool, bool),
}

/// How a window answers: how many of how many.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// Rows.
    pub rows: u64,
    /// Values.
    pub values: u64,
    /// How many independent values they are worth.
    pub effective: f64,
    /// How often the answer to each question is yes.
    pub yes: Vec<u64>,
}

impl Answers {
    /// Of how many: values, or rows if the question is about missing ones.
    pub(super) fn trials(&self, cause: Cause) -> u64 {
        if cause == Cause::Missing { self.rows } else { self.values }
    }
}

impl Questions {
    pub(super) fn of(reference: &ColumnProfile) -> Self {
        let missing = Question { cause: Cause::Missing, part: Part::Missing };
        match reference {
            ColumnProfile::Numbers(numbers) => {
                let ends = groups(numbers);
                let all = about_numbers(ends.len()).into_iter().chain([missing]).collect();
                Self { all, ends, infinite: (numbers.beyond().0 > 0, numbers.beyond().1 > 0) }
            }
            ColumnProfile::Levels(levels) => {
                let all = about_levels(levels).into_iter().chain([missing]).collect();
                Self { all, ends: vec![], infinite: (false, false) }
            }
        }
    }

    /// The answers of a window; `None` if it is of the other kind or over other bins.
    pub(super) fn answers(&self, reference: &ColumnProfile, window: &ColumnProfile) -> Option<Answers> {
        let yes = match (reference, window) {
            (ColumnProfile::Numbers(reference), ColumnProfile::Numbers(window)) => {
                if reference.counts().len() != window.counts().len() {
                    return None;
                }
                self.of_numbers(window)
            }
            (ColumnProfile::Levels(reference), ColumnProfile::Levels(window)) => {
                self.of_levels(reference, window)
            }
            _ => return None,
        };
        let (rows, values, effective) = (window.rows(), window.values(), window.effective());
        Some(Answers { rows, values, effective, yes })
    }

    fn of_numbers(&self, window: &NumberProfile) -> Vec<u64> {
        let mut sums = vec![0; self.ends.len() + 1]; // sums[g]: values of the first g groups
        let mut begin = 0;
        for (group, &end) in self.ends.iter().enumerate() {
            sums[group + 1] = sums[group] + window.counts()[begin..end].iter().sum::<u64>();
            begin = end;
        }
        let (values, missing) = (window.values(), window.missing());
        let (below, above) = window.beyond();
        // An infinity is nothing new where the reference held some.
        let below = if self.infinite.0 { 0 } else { below };
        let above = if self.infinite.1 { 0 } else { above };
        let answer = |question: &Question| match question.part {
            Part::FirstGroups(groups) => sums[groups],
            Part::Outside(from, until) => values - (sums[until] - sums[from]),
            Part::Group(group) => sums[group + 1] - sums[group],
            Part::Below => below,
            Part::Above => above,
            Part::Beyond => below + above,
            Part::Missing => missing,
            Part::Level(_) | Part::Rest | Part::Unseen => 0,
        };
        self.all.iter().map(answer).collect()
    }

    fn of_levels(&self, reference: &LevelProfile, window: &LevelProfile) -> Vec<u64> {
        let values = window.values();
        let known: u64 = window.known_to(reference);
        let mut asked = 0;
        let mut yes: Vec<u64> = Vec::with_capacity(self.all.len());
        for question in &self.all {
            yes.push(match &question.part {
                Part::Level(level) => {
                    let count = window.count(level);
                    asked += count;
                    count
                }
                Part::Rest => values - asked,
                Part::Unseen => values - known,
                Part::Missing => window.nulls,
                _ => 0,
            });
        }
        yes
    }

    /// What becomes of each share when all numbers move: the greatest change if the logit of every cumulative share moves by at
    /// most `by`. None for questions about something else than the spread or the shape of numbers.
    pub(super) fn moved_along(&self, shares: &[f64], by: f64) -> Vec<f64> {
        let groups =
            self.all.iter().zip(shares).filter(|(question, _)| matches!(question.part, Part::Group(_)));
        let mut below = vec![0.0]; // below[g]: the share of the first g groups
        below.extend(groups.scan(0.0_f64, |sum, (_, share)| {
            *sum = (*sum + share).min(1.0);
            Some(*sum)
        }));
        let moved = |share: f64, by: f64| share / (share + (1.0 - share) * (-by).exp());
        let change =
            |begin: f64, end: f64, by: f64| (moved(end, by) - moved(begin, by) - (end - begin)).abs();
        let of_groups = |begin: usize, end: usize| {
            let (begin, end) = (below[begin], below[end]);
            change(begin, end, by).max(change(begin, end, -by))
        };
        let of = |question: &Question| match question.part {
            Part::Outside(from, until) => of_groups(from, until),
            Part::Group(group) => of_groups(group, group + 1),
            _ => 0.0,
        };
        self.all.iter().map(of).collect()
    }

    /// What the values are that a question asks about, in words.
    pub(super) fn in_words(&self, question: usize, reference: &ColumnProfile) -> String {
        let edge = |group: usize| match reference {
            ColumnProfile::Numbers(numbers) if group > 0 => {
                let edges = numbers.edges().as_slice();
                written(edges[(self.ends[group - 1] - 1).min(edges.len() - 1)])
            }
            ColumnProfile::Numbers(numbers) => written(numbers.edges().range().0),
            ColumnProfile::Levels(_) => String::new(),
        };
        let range = match reference {
            ColumnProfile::Numbers(numbers) => numbers.edges().range(),
            ColumnProfile::Levels(_) => (0.0, 0.0),
        };
        match &self.all[question].part {
            Part::FirstGroups(groups) => format!("at or below {}", edge(*groups)),
            Part::Outside(from, until) => format!("outside {} to {}", edge(*from), edge(*until)),
            Part::Group(group) => format!("from {} to {}", edge(*group), edge(group + 1)),
            Part::Below => format!("below {}, the reference's least", written(range.0)),
            Part::Above => format!("above {}, the reference's greatest", written(range.1)),
            Part::Beyond => {
                format!("beyond {} to {}, all that the reference held", written(range.0), written(range.1))
            }
            Part::Level(level) => format!("`{level}`"),
            Part::Rest => "of rare levels".to_owned(),
            Part::Unseen => "of levels that the reference never saw".to_owned(),
            Part::Missing => "missing".to_owned(),
        }
    }
}

/// A number for people: six digits, with an exponent if it is huge or tiny.
fn written(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-4..1e9).contains(&size) { format!("{value:.6}") } else { format!("{value:.5e}") }
}

/// The bins at which groups of about equally many values end; fewer than [`GROUPS`] if values repeat.
fn groups(reference: &NumberProfile) -> Vec<usize> {
    let (counts, total) = (reference.counts(), reference.values().max(1));
    let mut ends = Vec::with_capacity(GROUPS);
    let (mut before, mut own) = (0_u64, 0_u64);
    for (bin, &count) in counts.iter().enumerate() {
        before += count;
        own += count;
        let wanted = u128::from(total) * (ends.len() as u128 + 1);
        if own > 0 && u128::from(before) * GROUPS as u128 >= wanted && ends.len() + 1 < GROUPS {
            ends.push(bin + 1);
            own = 0;
        }
    }
    match ends.last_mut() {
        Some(last) if own == 0 => *last = counts.len(),
        _ => ends.push(counts.len()),
    }
    ends
}

fn about_numbers(groups: usize) -> Vec<Question> {
    let ask = |cause, part| Question { cause, part };
    let step = if groups > GROUPS / 2 { 2 } else { 1 };
    let location = (step..groups).step_by(step).map(Part::FirstGroups);
    // The outer 5, 10, 25 and 40 % at both ends.
    let outer = [1, 2, 5, 8].map(|of_twenty| (of_twenty * groups).div_ceil(GROUPS));
    let mut outer: Vec<usize> = outer.into_iter().filter(|from| from * 2 < groups).collect();
    outer.dedup();
    let spread = outer.into_iter().map(|from| Part::Outside(from, groups - from));
    let shape = (0..if groups > 1 { groups } else { 0 }).map(Part::Group);
    let mut all: Vec<Question> = location.map(|part| ask(Cause::Location, part)).collect();
    all.extend(spread.map(|part| ask(Cause::Spread, part)));
    all.extend(shape.map(|part| ask(Cause::Shape, part)));
    all.extend([Part::Below, Part::Above, Part::Beyond].map(|part| ask(Cause::Range, part)));
    all
}

fn about_levels(reference: &LevelProfile) -> Vec<Question> {
    let mut levels = reference.levels();
    levels.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
    levels.truncate(NAMED);
    let named = levels.into_iter().map(|(level, _)| Part::Level(level.to_owned()));
    let all = named.chain([Part::Rest]).map(|part| Question { cause: Cause::Levels, part });
    all.chain([Question { cause: Cause::Unseen, part: Part::Unseen }]).collect()
}
