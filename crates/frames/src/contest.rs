//! The as-of join over rows in any order: each row is offered once, and each label keeps the best row it may see.
//!
//! Labels of one key are sorted by cutoff, so a row that happened at e and was learned at k may be seen by a suffix of them:
//! from the first cutoff ≥ e (> e, if exclusive), and the first moment of knowledge ≥ k, on. The row is noted at the start of
//! its suffix, if it beats what is noted there; when all rows were offered, a running maximum over each key's labels gives the
//! winners. n rows and m labels cost O((n + m) log m), and the memory of the labels alone: rows are never sorted or kept.
//!
//! Where later cutoffs of a key look from earlier moments (`as_of` a column), no suffix exists. Then each label is asked as a
//! prefix of a Fenwick tree whose nodes sort their labels by moment of knowledge: O(log² m) a row, O(m log m) memory.

use crate::as_of::{Rule, Status};
use crate::frame::NO_INTEGER;

/// The group of a label or row without a key: it matches nothing.
pub(crate) const NO_GROUP: u32 = u32::MAX;

/// From when labels look at what was known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AsOf<'a> {
    /// Each from its own cutoff.
    Cutoff,
    /// From the end of all days.
    Off,
    /// Each from its own moment.
    Moments(&'a [i64]),
}

/// A row that wants to be seen. Rows compare by (`event`, `known`, `seq`, place).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    event: i64,
    known: i64,
    seq: i64,
    /// One more than the row's number, then a bit for tombstones; 0 is nobody.
    place: u64,
}

const NOBODY: Claim = Claim { event: i64::MIN, known: i64::MIN, seq: i64::MIN, place: 0 };

impl Claim {
    /// Row number `row`, which happened at `event` and was learned at `known`, or nobody knows when ([`NO_INTEGER`]).
    pub(crate) fn new(event: i64, known: i64, seq: i64, row: u64, tombstone: bool) -> Self {
        Self { event, known, seq, place: (row + 1) << 1 | u64::from(tombstone) }
    }
}

/// What a label got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Won {
    /// What became of its question; never [`Status::Null`], as values are not looked at here.
    pub(crate) status: Status,
    /// The row, if it is present.
    pub(crate) row: Option<u64>,
}

/// Labels waiting for rows.
#[derive(Debug)]
pub(crate) struct Contest {
    rule: Rule,
    off: bool,
    /// Label numbers by (group, cutoff, `as_of`).
    order: Vec<u32>,
    /// Where each group's labels start in `order`; one more at the end.
    starts: Vec<u32>,
    cutoffs: Vec<i64>,
    /// Moments of knowledge, if they are not the cutoffs.
    as_of: Option<Vec<i64>>,
    best: Vec<Claim>,
    /// The trees of groups whose moments of knowledge do not rise with their cutoffs, by group.
    trees: Vec<(u32, Tree)>,
}

impl Contest {
    /// A contest for the labels whose groups are numbered from 0, or [`NO_GROUP`].
    pub(crate) fn new(groups: &[u32], cutoffs: &[i64], as_of: AsOf<'_>, rule: Rule) -> Self {
        let order = by_group(groups, |label| match as_of {
            AsOf::Moments(moments) => (cutoffs[label], moments[label]),
            _ => (cutoffs[label], 0),
        });
        let starts = starts_by_count(groups);
        let sorted = |times: &[i64]| order.iter().map(|&label| times[label as usize]).collect();
        let as_of_sorted: Option<Vec<i64>> = match as_of {
            AsOf::Moments(moments) => Some(sorted(moments)),
            _ => None,
        };
        let trees = as_of_sorted.as_deref().map_or_else(Vec::new, |as_of| trees(&starts, as_of));
        Self {
            rule,
            off: matches!(as_of, AsOf::Off),
            cutoffs: sorted(cutoffs),
            as_of: as_of_sorted,
            best: vec![NOBODY; order.len()],
            order,
            starts,
            trees,
        }
    }

    /// Offers a row to the labels of its group.
    #[inline]
    pub(crate) fn offer(&mut self, group: u32, claim: Claim) {
        let unknown = claim.known == NO_INTEGER && !self.off;
        let Some(since) = claim.event.checked_add(i64::from(self.rule.exclusive)).filter(|_| !unknown) else {
            return;
        };
        let (start, end) = (self.starts[group as usize] as usize, self.starts[group as usize + 1] as usize);
        let first_in =
            |times: &[i64], moment: i64| start + times[start..end].partition_point(|&t| t < moment);
        let place = match &self.as_of {
            None if self.off => first_in(&self.cutoffs, since),
            None => first_in(&self.cutoffs, since.max(claim.known)),
            Some(as_of) => {
                let happened = first_in(&self.cutoffs, since);
                if let Ok(tree) = self.trees.binary_search_by_key(&group, |(group, _)| *group) {
                    return self.trees[tree].1.offer(happened - start, claim);
                }
                happened.max(first_in(as_of, claim.known))
            }
        };
        if place < end && claim > self.best[place] {
            self.best[place] = claim;
        }
    }

    /// What each label won, in the order in which the labels were given. Labels without a group find nothing.
    pub(crate) fn settle(self, labels: usize) -> Vec<Won> {
        let mut won = vec![Won { status: Status::NotFound, row: None }; labels];
        let mut trees = self.trees.into_iter().peekable();
        for (group, range) in self.starts.windows(2).enumerate() {
            let range = range[0] as usize..range[1] as usize;
            let best = match trees.next_if(|(of, _)| *of as usize == group) {
                Some((_, tree)) => tree.settle(),
                None => running_maximum(&self.best[range.clone()]),
            };
            for (place, best) in range.zip(best) {
                won[self.order[place] as usize] = judge(best, self.cutoffs[place], self.rule);
            }
        }
        won
    }
}

fn running_maximum(claims: &[Claim]) -> Vec<Claim> {
    claims
        .iter()
        .scan(NOBODY, |best, claim| {
            *best = (*best).max(*claim);
            Some(*best)
        })
        .collect()
}

fn judge(best: Claim, cutoff: i64, rule: Rule) -> Won {
    let status = if best.place == 0 {
        Status::NotFound
    } else if best.place & 1 == 1 {
        Status::Deleted
    } else if rule.max_age.is_some_and(|oldest| cutoff.saturating_sub(best.event) > oldest) {
        Status::Expired
    } else {
        Status::Present
    };
    Won { status, row: (status == Status::Present).then(|| (best.place >> 1) - 1) }
}

/// Label numbers sorted by (group, `rank`); labels without a group are left out.
fn by_group<R: Ord>(groups: &[u32], rank: impl Fn(usize) -> R) -> Vec<u32> {
    let mut next = starts_by_count(groups);
    let mut order = vec![0; *next.last().unwrap_or(&0) as usize];
    for (label, &group) in groups.iter().enumerate() {
        if group != NO_GROUP {
            order[next[group as usize] as usize] = label as u32;
            next[group as usize] += 1;
        }
    }
    let mut start = 0;
    for &end in next.iter().take(next.len().saturating_sub(1)) {
        order[start as usize..end as usize].sort_unstable_by_key(|&label| (rank(label as usize), label));
        start = end;
    }
    order
}

/// Where each group starts among labels sorted by group, and their number.
fn starts_by_count(groups: &[u32]) -> Vec<u32> {
    let count =
        groups.iter().filter(|&&group| group != NO_GROUP).max().map_or(0, |&group| group as usize + 1);
    let mut starts = vec![0; count + 1];
    for &group in groups.iter().filter(|&&group| group != NO_GROUP) {
        starts[group as usize + 1] += 1;
    }
    for group in 0..count {
        starts[group + 1] += starts[group];
    }
    starts
}

/// Trees for the groups whose moments of knowledge fall somewhere.
fn trees(starts: &[u32], as_of: &[i64]) -> Vec<(u32, Tree)> {
    let of_group = |(group, range): (usize, &[u32])| {
        let moments = &as_of[range[0] as usize..range[1] as usize];
        (!moments.is_sorted()).then(|| (group as u32, Tree::new(moments)))
    };
    starts.windows(2).enumerate().filter_map(of_group).collect()
}

/// A Fenwick tree over the labels of one group in the order of their cutoffs. A row is noted in the nodes that cover its
/// first label; a label asks the nodes of its prefix. Each node sorts the labels that ask it by moment of knowledge.
#[derive(Debug)]
struct Tree {
    as_of: Vec<i64>,
    /// Where each node's labels start; nodes count from 1.
    starts: Vec<u32>,
    moments: Vec<i64>,
    best: Vec<Claim>,
}

impl Tree {
    fn new(as_of: &[i64]) -> Self {
        let mut asked = vec![Vec::new(); as_of.len() + 1];
        for (label, &moment) in as_of.iter().enumerate() {
            for node in prefix(label + 1) {
                asked[node].push(moment);
            }
        }
        let mut starts = vec![0];
        let mut moments = Vec::new();
        for mut of_node in asked {
            of_node.sort_unstable();
            moments.extend(of_node);
            starts.push(moments.len() as u32);
        }
        Self { as_of: as_of.to_vec(), starts, best: vec![NOBODY; moments.len()], moments }
    }

    /// Offers a row that happened in time for the labels from `first` on.
    fn offer(&mut self, first: usize, claim: Claim) {
        let mut node = first + 1;
        while node <= self.as_of.len() {
            let place = self.first_from(node, claim.known);
            if place < self.starts[node + 1] as usize && claim > self.best[place] {
                self.best[place] = claim;
            }
            node += node & node.wrapping_neg();
        }
    }

    /// The first place of a node whose moment is `moment` or later.
    fn first_from(&self, node: usize, moment: i64) -> usize {
        let (start, end) = (self.starts[node] as usize, self.starts[node + 1] as usize);
        start + self.moments[start..end].partition_point(|&t| t < moment)
    }

    /// What each label won, in the order of their cutoffs.
    fn settle(mut self) -> Vec<Claim> {
        for node in self.starts.windows(2) {
            let range = node[0] as usize..node[1] as usize;
            let settled = running_maximum(&self.best[range.clone()]);
            self.best[range].copy_from_slice(&settled);
        }
        let best_of = |label: usize| {
            let places = prefix(label + 1).map(|node| self.first_from(node, self.as_of[label]));
            places.map(|place| self.best[place]).max().unwrap_or(NOBODY)
        };
        (0..self.as_of.len()).map(best_of).collect()
    }
}

/// The nodes that cover the first `count` labels.
fn prefix(count: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(count), |node| Some(node & node.wrapping_sub(1))).take_while(|node| *node > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Row {
        key: u32,
        event: i64,
        known: Option<i64>,
        seq: i64,
        tombstone: bool,
    }

    #[derive(Clone, Debug)]
    struct Label {
        key: Option<u32>,
        cutoff: i64,
        as_of: i64,
    }

    fn row() -> impl Strategy<Value = Row> {
        (0u32..3, 0i64..20, prop::option::weighted(0.9, 0i64..30), 0i64..4, prop::bool::weighted(0.15))
            .prop_map(|(key, event, known, seq, tombstone)| Row { key, event, known, seq, tombstone })
    }

    fn label() -> impl Strategy<Value = Label> {
        (prop::option::weighted(0.9, 0u32..4), 0i64..25, 0i64..35).prop_map(|(key, cutoff, as_of)| Label {
            key,
            cutoff,
            as_of,
        })
    }

    /// The definition, read row by row.
    fn by_definition(rows: &[Row], label: &Label, as_of: Option<i64>, rule: Rule) -> Won {
        let seen = rows.iter().enumerate().filter(|(_, row)| {
            Some(row.key) == label.key
                && (row.event < label.cutoff || (row.event == label.cutoff && !rule.exclusive))
                && as_of.is_none_or(|as_of| row.known.is_some_and(|known| known <= as_of))
        });
        let nothing = |status| Won { status, row: None };
        match seen.max_by_key(|(place, row)| (row.event, row.known, row.seq, *place)) {
            None => nothing(Status::NotFound),
            Some((_, row)) if row.tombstone => nothing(Status::Deleted),
            Some((_, row)) if rule.max_age.is_some_and(|oldest| label.cutoff - row.event > oldest) => {
                nothing(Status::Expired)
            }
            Some((place, _)) => Won { status: Status::Present, row: Some(place as u64) },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn every_label_wins_the_row_that_the_definition_names(
            rows in prop::collection::vec(row(), 0..60),
            labels in prop::collection::vec(label(), 0..30),
            mode in 0usize..3,
            exclusive: bool,
            max_age in prop::option::of(0i64..10),
        ) {
            let groups: Vec<u32> = labels.iter().map(|label| label.key.unwrap_or(NO_GROUP)).collect();
            let cutoffs: Vec<i64> = labels.iter().map(|label| label.cutoff).collect();
            let moments: Vec<i64> = labels.iter().map(|label| label.as_of).collect();
            let as_of = [AsOf::Cutoff, AsOf::Off, AsOf::Moments(&moments)][mode];
            let rule = Rule { exclusive, max_age };
            let mut contest = Contest::new(&groups, &cutoffs, as_of, rule);
            let asked = groups.iter().filter(|group| **group != NO_GROUP).max();
            for (place, row) in rows.iter().enumerate().filter(|(_, row)| asked.is_some_and(|most| row.key <= *most)) {
                let known = row.known.unwrap_or(NO_INTEGER);
                contest.offer(row.key, Claim::new(row.event, known, row.seq, place as u64, row.tombstone));
            }
            let won = contest.settle(labels.len());
            for (label, won) in labels.iter().zip(won) {
                let looks = [Some(label.cutoff), None, Some(label.as_of)][mode];
                prop_assert_eq!(won, by_definition(&rows, label, looks, rule));
            }
        }
    }

    #[test]
    fn a_row_at_the_end_of_all_days_is_never_before_it() {
        let rule = Rule { exclusive: true, max_age: None };
        let mut contest = Contest::new(&[0], &[i64::MAX], AsOf::Off, rule);
        contest.offer(0, Claim::new(i64::MAX, 0, 0, 0, false));
        assert_eq!(contest.settle(1)[0].status, Status::NotFound);
    }
}
