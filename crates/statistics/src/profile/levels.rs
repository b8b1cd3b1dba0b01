//! Levels: the common ones by name, the rest together.

use std::collections::HashMap;

use super::bytes::{Reader, Writer};
use crate::{Error, check};

/// The most levels that are kept by name.
pub const MOST_LEVELS: usize = 256;
/// Longer names are cut: a profile has a bound.
const LONGEST_NAME: usize = 64;

/// What is kept of a column of levels.
///
/// The first [`MOST_LEVELS`] distinct levels are counted by name; with [`LevelProfile::of_reference`] those are the most
/// common of the reference. A level that is not among them counts as other. Names longer than 64 bytes are cut and marked
/// with a hash of the whole, so a profile stays below 32 KB.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LevelProfile {
    format: u32,
    counts: HashMap<String, u64>,
    /// Values of levels that are not kept by name.
    pub other: u64,
    /// Rows without a value.
    pub nulls: u64,
    /// Whether new levels may still be added by name.
    open: bool,
    /// For the correlation of neighbours: how often a value is the one before.
    repeats: u64,
    pairs: u64,
    previous: Option<u64>,
    /// Levels of the reference that occurred once, of how many values: what share of new levels is to be expected.
    singletons: u64,
}

impl Default for LevelProfile {
    fn default() -> Self {
        Self {
            format: 1,
            counts: HashMap::new(),
            other: 0,
            nulls: 0,
            open: true,
            repeats: 0,
            pairs: 0,
            previous: None,
            singletons: 0,
        }
    }
}

/// FNV-1a, which is the same on every machine.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The name under which a level is kept.
fn short(level: &str) -> String {
    if level.len() <= LONGEST_NAME {
        return level.to_owned();
    }
    let mut end = LONGEST_NAME - 20;
    while !level.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…{:016x}", &level[..end], hash(level))
}

impl LevelProfile {
    /// A profile of a whole reference from the counts of its levels: the most common are kept by name.
    ///
    /// ```
    /// let profile = statistics::profile::LevelProfile::of_reference([("AA", 3), ("UA", 1)], 0);
    /// assert_eq!((profile.count("AA"), profile.values(), profile.singletons()), (3, 4, 1));
    /// ```
    pub fn of_reference<'a>(levels: impl IntoIterator<Item = (&'a str, u64)>, nulls: u64) -> Self {
        let mut levels: Vec<(&str, u64)> = levels.into_iter().filter(|(_, count)| *count > 0).collect();
        levels.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        let rest = levels.split_off(levels.len().min(MOST_LEVELS));
        Self {
            counts: levels.iter().map(|(level, count)| (short(level), *count)).collect(),
            other: rest.iter().map(|(_, count)| count).sum(),
            singletons: levels.iter().chain(&rest).filter(|(_, count)| *count == 1).count() as u64,
            nulls,
            open: rest.is_empty(),
            ..Self::default()
        }
    }

    /// An empty profile that keeps the levels that a reference keeps.
    pub fn like(reference: &Self) -> Self {
        Self {
            counts: reference.counts.keys().map(|level| (level.clone(), 0)).collect(),
            open: reference.open,
            ..Self::default()
        }
    }

    /// Takes a value, in the order of time.
    pub fn observe(&mut self, level: &str) {
        let hashed = hash(level);
        self.repeats += u64::from(self.previous == Some(hashed));
        self.pairs += u64::from(self.previous.is_some());
        self.previous = Some(hashed);
        self.add(level, 1);
    }

    /// Takes several values of one level, whose order is unknown.
    pub fn add(&mut self, level: &str, count: u64) {
        if level.len() <= LONGEST_NAME {
            self.add_named(level, count);
        } else {
            self.add_named(&short(level), count);
        }
    }

    fn add_named(&mut self, name: &str, count: u64) {
        if let Some(kept) = self.counts.get_mut(name) {
            *kept += count;
        } else if self.open && self.counts.len() < MOST_LEVELS {
            self.counts.insert(name.to_owned(), count);
        } else {
            self.other += count;
        }
    }

    /// Takes rows without a value.
    pub fn observe_nulls(&mut self, rows: u64) {
        self.nulls += rows;
    }

    /// Adds a profile of later rows. Where there is not room for all of its levels, the first by name get it.
    pub fn merge(&mut self, later: &Self) {
        if self.open && self.counts.len() + later.counts.len() > MOST_LEVELS {
            later.levels().into_iter().for_each(|(level, count)| self.add_named(level, count));
        } else {
            later.counts.iter().for_each(|(level, count)| self.add_named(level, *count));
        }
        self.other += later.other;
        self.nulls += later.nulls;
        self.repeats += later.repeats;
        self.pairs += later.pairs;
        self.previous = later.previous.or(self.previous);
    }

    pub(super) fn write(&self, to: &mut Writer) {
        let levels = self.levels();
        to.whole(levels.len() as u64);
        for (level, count) in levels {
            to.text(level);
            to.whole(count);
        }
        to.whole(self.previous.map_or(0, |_| 1));
        to.whole(self.previous.unwrap_or_default());
        [self.other, self.nulls, u64::from(self.open), self.repeats, self.pairs, self.singletons]
            .into_iter()
            .for_each(|count| to.whole(count));
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        let mut profile = Self::default();
        for _ in 0..from.length()? {
            let level = from.text()?.to_owned();
            profile.counts.insert(level, from.whole()?);
        }
        let has_previous = from.whole()? == 1;
        let previous = from.whole()?;
        profile.previous = has_previous.then_some(previous);
        profile.other = from.whole()?;
        profile.nulls = from.whole()?;
        profile.open = from.whole()? == 1;
        profile.repeats = from.whole()?;
        profile.pairs = from.whole()?;
        profile.singletons = from.whole()?;
        Ok(profile)
    }

    /// How often a level occurred; 0 if it is not kept by name.
    pub fn count(&self, level: &str) -> u64 {
        let kept =
            if level.len() <= LONGEST_NAME { self.counts.get(level) } else { self.counts.get(&short(level)) };
        kept.copied().unwrap_or_default()
    }

    /// How many values are of levels that a reference keeps by name.
    pub fn known_to(&self, reference: &Self) -> u64 {
        let known = self.counts.iter().filter(|(level, _)| reference.counts.contains_key(*level));
        known.map(|(_, count)| count).sum()
    }

    /// The share of values that are to be expected in levels that are not kept by name, were this the reference: those that
    /// were not kept, and Good and Turing's of levels never seen.
    pub fn unnamed_share(&self) -> f64 {
        ((self.other + self.singletons) as f64 / self.values().max(1) as f64).min(1.0)
    }

    /// The levels kept by name, with their counts, by name.
    pub fn levels(&self) -> Vec<(&str, u64)> {
        let mut levels: Vec<(&str, u64)> =
            self.counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        levels.sort_unstable();
        levels
    }

    /// Values seen.
    pub fn values(&self) -> u64 {
        self.counts.values().sum::<u64>() + self.other
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        self.values() + self.nulls
    }

    /// Levels that occurred once when the profile was made of a whole reference.
    pub fn singletons(&self) -> u64 {
        self.singletons
    }

    /// How many independent values the values are worth: n(1 − r)/(1 + r), r by how much more often neighbours agree than
    /// chance explains.
    pub fn effective(&self) -> f64 {
        let n = self.values() as f64;
        if self.pairs < 2 || n == 0.0 {
            return n;
        }
        let by_chance: f64 = self.counts.values().map(|&count| (count as f64 / n).powi(2)).sum();
        let agree = self.repeats as f64 / self.pairs as f64;
        let r =
            if by_chance < 1.0 { ((agree - by_chance) / (1.0 - by_chance)).clamp(0.0, 0.999) } else { 0.0 };
        (n * (1.0 - r) / (1.0 + r)).max(1.0)
    }

    /// The counts of this and another profile over the levels that either keeps, by name, and last the rest; and of how many
    /// of the levels this one, the reference, has never seen.
    ///
    /// # Errors
    /// [`Error::TooFew`] if a profile has no value.
    pub fn beside<'a>(&'a self, current: &'a Self) -> Result<Beside<'a>, Error> {
        check::at_least(1, self.values().min(current.values()) as usize, "values")?;
        let mut names: Vec<&str> =
            self.counts.keys().chain(current.counts.keys()).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let of = |profile: &Self| {
            let counted = names.iter().map(|name| profile.counts.get(*name).copied().unwrap_or_default());
            counted.chain([profile.other]).collect()
        };
        Ok(Beside { reference: of(self), current: of(current), names })
    }
}

/// Two profiles over the same levels; the last count is that of the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Beside<'a> {
    /// The levels.
    pub names: Vec<&'a str>,
    /// The reference's counts: one more than names.
    pub reference: Vec<u64>,
    /// The current counts: one more than names.
    pub current: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(levels: &[&str]) -> LevelProfile {
        let mut profile = LevelProfile::default();
        levels.iter().for_each(|level| profile.observe(level));
        profile
    }

    #[test]
    fn common_levels_have_names_and_the_rest_is_counted() {
        let names: Vec<String> = (0..1_000).map(|level| format!("L{level}")).collect();
        let reference = LevelProfile::of_reference(
            names.iter().enumerate().map(|(i, name)| (name.as_str(), 1_000 - i as u64)),
            5,
        );
        assert_eq!((reference.count("L0"), reference.count("L999")), (1_000, 0));
        assert_eq!(reference.levels().len(), MOST_LEVELS);
        let mut current = LevelProfile::like(&reference);
        current.observe("L0");
        current.observe("never seen");
        assert_eq!((current.count("L0"), current.other), (1, 1));
    }

    #[test]
    fn long_names_are_cut_and_kept_apart() {
        let (one, other) = ("x".repeat(1 << 20) + "1", "x".repeat(1 << 20) + "2");
        let profile = profile(&[&one, &other, &one]);
        assert_eq!((profile.count(&one), profile.count(&other)), (2, 1));
        assert!(serde_json::to_vec(&profile).unwrap().len() < 1_000);
    }

    #[test]
    fn a_profile_fits_its_bound() {
        let names: Vec<String> = (0..10_000).map(|level| format!("{level:064}")).collect();
        let mut profile = LevelProfile::default();
        names.iter().for_each(|name| profile.observe(name));
        let bytes = serde_json::to_vec(&profile).unwrap().len();
        assert!(bytes < 32 << 10, "{bytes}");
        assert_eq!(profile.values(), 10_000);
    }

    #[test]
    fn windows_merge_into_the_span_they_cover() {
        let mut merged = profile(&["AA", "UA"]);
        merged.merge(&profile(&["UA", "DL"]));
        assert_eq!(merged.levels(), [("AA", 1), ("DL", 1), ("UA", 2)]);
    }

    #[test]
    fn levels_that_come_in_runs_are_worth_less() {
        let runs: Vec<&str> = (0..1_000).map(|row| if row / 50 % 2 == 0 { "a" } else { "b" }).collect();
        assert!(profile(&runs).effective() < 60.0);
        let mut generator = crate::Generator::from_seed(1);
        let mixed: Vec<&str> =
            (0..1_000).map(|_| if generator.uniform() < 0.4 { "a" } else { "b" }).collect();
        assert!(profile(&mixed).effective() > 800.0);
    }
}
