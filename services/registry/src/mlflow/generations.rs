//! A bounded map that forgets what was not asked for lately.
//!
//! Invariant: young and old together never hold more than `most_bytes`.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// What knows how much memory it takes, its key included.
pub(super) trait Weighed {
    /// How much, about.
    fn size_bytes(&self) -> usize;
}

/// What was asked for since the last turn, and before it. When the young fill half of the room they become the old, and what was not
/// asked for since goes.
pub(super) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_bytes: usize,
    most_bytes: usize,
}

impl<K: Eq + Hash, V: Weighed> Generations<K, V> {
    /// Room for so much.
    pub(super) fn of(most_bytes: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, most_bytes }
    }

    /// What is kept under a key; it counts as asked for.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.put(key, value);
        }
        self.young.get(key)
    }

    /// Keeps one, unless it would take more than its share of the room.
    pub(super) fn put(&mut self, key: K, value: V) {
        let size = value.size_bytes();
        if size > self.most_bytes / 16 {
            return;
        }
        if self.young_bytes + size > self.most_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += size;
        if let Some(before) = self.young.insert(key, value) {
            self.young_bytes -= before.size_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sized(usize);

    impl Weighed for Sized {
        fn size_bytes(&self) -> usize {
            self.0
        }
    }

    fn bytes_held(generations: &Generations<u32, Sized>) -> usize {
        generations.young.values().chain(generations.old.values()).map(Sized::size_bytes).sum()
    }

    #[test]
    fn however_much_is_kept_it_stays_below_the_bound_and_the_latest_is_there() {
        let mut generations = Generations::of(64 << 10);
        for number in 0..1_000 {
            generations.put(number, Sized(256 + number as usize));
            assert!(bytes_held(&generations) <= 64 << 10, "{number}");
            assert!(generations.get(&number).is_some(), "{number}");
        }
        assert!(generations.get(&0).is_none());
        generations.put(999, Sized(1));
        let young: usize = generations.young.values().map(Sized::size_bytes).sum();
        assert_eq!(generations.young_bytes, young);
    }

    #[test]
    fn what_is_asked_for_again_outlives_what_is_not() {
        let mut generations = Generations::of(64 << 10);
        generations.put(0, Sized(257));
        for number in 1..2_000 {
            generations.put(number, Sized(257));
            assert!(generations.get(&0).is_some(), "{number}");
        }
        assert!(generations.get(&1).is_none());
    }

    #[test]
    fn what_is_larger_than_its_share_does_not_push_the_others_out() {
        let mut generations = Generations::of(64 << 10);
        generations.put(0, Sized(257));
        generations.put(1, Sized(5_000));
        assert!(generations.get(&1).is_none());
        assert!(generations.get(&0).is_some());
    }
}
