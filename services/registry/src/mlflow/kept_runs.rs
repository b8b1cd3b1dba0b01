//! What was logged into runs, kept in memory as the JSON that is sent, so that a page of runs is one statement.
//!
//! Invariant: nothing is given out but for the etag that was just read with the run's row, and nothing is kept but under the etag that
//! was read with the contents, in one snapshot. What other servers over the same database log therefore shows at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use sqlx::PgConnection;
use storage::tracking::runs::Run;
use storage::tracking::{self, Contents};
use uuid::Uuid;

use super::run_views::Logged;

/// How much is kept, at most.
const MOST_BYTES: usize = 32 << 20;

/// What an entry takes besides its JSON, about.
const ENTRY_BYTES: usize = 256;

/// The runs that were asked for lately, shared by the whole process.
#[derive(Clone)]
pub(crate) struct KeptRuns(Arc<Mutex<Generations>>);

impl Default for KeptRuns {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Generations::of(MOST_BYTES))))
    }
}

impl KeptRuns {
    /// What was logged into these runs, in their order; only what is not kept is asked of the database.
    ///
    /// Call it outside of transactions that log: what they wrote may never be committed.
    pub(crate) async fn logged(
        &self,
        conn: &mut PgConnection,
        project: &str,
        runs: &[Run],
    ) -> Result<Vec<Arc<Logged>>, storage::Error> {
        let mut logged = self.kept(runs);
        let unknown = runs.iter().zip(&logged).filter(|(_, logged)| logged.is_none());
        let unknown: Vec<String> = unknown.map(|(run, _)| run.id.clone()).collect();
        if !unknown.is_empty() {
            let contents = tracking::contents_of(conn, project, &unknown).await?;
            let mut loaded = self.keep(unknown, &contents).into_iter();
            logged.iter_mut().filter(|logged| logged.is_none()).for_each(|logged| *logged = loaded.next());
        }
        Ok(logged.into_iter().flatten().collect())
    }

    fn kept(&self, runs: &[Run]) -> Vec<Option<Arc<Logged>>> {
        let mut generations = self.0.lock().expect("no holder of this lock can panic");
        runs.iter().map(|run| generations.get(&run.id, run.contents_etag)).collect()
    }

    fn keep(&self, ids: Vec<String>, contents: &[Contents]) -> Vec<Arc<Logged>> {
        let logged: Vec<Arc<Logged>> =
            contents.iter().map(|contents| Arc::new(Logged::of(contents))).collect();
        let mut generations = self.0.lock().expect("no holder of this lock can panic");
        for ((id, contents), logged) in ids.into_iter().zip(contents).zip(&logged) {
            if let Some(etag) = contents.etag {
                generations.put(id, Kept { etag, logged: Arc::clone(logged) });
            }
        }
        logged
    }
}

#[derive(Clone)]
struct Kept {
    etag: Uuid,
    logged: Arc<Logged>,
}

impl Kept {
    fn size_bytes(&self) -> usize {
        self.logged.size_bytes() + ENTRY_BYTES
    }
}

/// What was asked for since the last turn, and before it. When the young fill half of the room they become the old, and what was not
/// asked for since goes.
struct Generations {
    young: HashMap<String, Kept>,
    old: HashMap<String, Kept>,
    young_bytes: usize,
    most_bytes: usize,
}

impl Generations {
    fn of(most_bytes: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, most_bytes }
    }

    fn get(&mut self, id: &str, etag: Uuid) -> Option<Arc<Logged>> {
        let current = |kept: &Kept| (kept.etag == etag).then(|| Arc::clone(&kept.logged));
        if let Some(kept) = self.young.get(id) {
            return current(kept);
        }
        let (id, kept) = self.old.remove_entry(id)?;
        let logged = current(&kept)?;
        self.put(id, kept);
        Some(logged)
    }

    /// Keeps one, unless it would take more than its share of the room.
    fn put(&mut self, id: String, kept: Kept) {
        let size = kept.size_bytes();
        if size > self.most_bytes / 16 {
            return;
        }
        if self.young_bytes + size > self.most_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += size;
        if let Some(before) = self.young.insert(id, kept) {
            self.young_bytes -= before.size_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(etag: u128, tag: &str) -> Kept {
        let tags = vec![("t".to_owned(), tag.to_owned())];
        let contents = Contents { tags, ..Contents::default() };
        Kept { etag: Uuid::from_u128(etag), logged: Arc::new(Logged::of(&contents)) }
    }

    fn bytes_held(generations: &Generations) -> usize {
        generations.young.values().chain(generations.old.values()).map(Kept::size_bytes).sum()
    }

    #[test]
    fn only_the_etag_that_was_read_with_the_contents_is_answered() {
        let mut generations = Generations::of(1 << 20);
        generations.put("r".to_owned(), kept(1, "a"));
        assert!(generations.get("r", Uuid::from_u128(1)).is_some());
        assert!(generations.get("r", Uuid::from_u128(2)).is_none());
        generations.put("r".to_owned(), kept(2, "b"));
        assert!(generations.get("r", Uuid::from_u128(2)).is_some());
        assert!(generations.get("r", Uuid::from_u128(1)).is_none());
    }

    #[test]
    fn however_many_runs_are_asked_for_their_bytes_stay_below_the_bound_and_the_latest_are_kept() {
        let mut generations = Generations::of(64 << 10);
        for number in 0..1_000 {
            generations.put(format!("r{number}"), kept(number, &"x".repeat(number as usize)));
            assert!(bytes_held(&generations) <= 64 << 10, "{number}");
            assert!(generations.get(&format!("r{number}"), Uuid::from_u128(number)).is_some(), "{number}");
        }
        assert!(generations.get("r0", Uuid::from_u128(0)).is_none());
        generations.put("r999".to_owned(), kept(1, "y"));
        let young: usize = generations.young.values().map(Kept::size_bytes).sum();
        assert_eq!(generations.young_bytes, young);
    }

    #[test]
    fn what_is_asked_for_again_outlives_what_is_not() {
        let mut generations = Generations::of(64 << 10);
        generations.put("liked".to_owned(), kept(0, "x"));
        for number in 1..2_000 {
            generations.put(format!("r{number}"), kept(number, "x"));
            assert!(generations.get("liked", Uuid::from_u128(0)).is_some(), "{number}");
        }
    }

    #[test]
    fn a_run_that_is_larger_than_its_share_does_not_push_the_others_out() {
        let mut generations = Generations::of(64 << 10);
        generations.put("small".to_owned(), kept(0, "x"));
        generations.put("large".to_owned(), kept(1, &"x".repeat(5_000)));
        assert!(generations.get("large", Uuid::from_u128(1)).is_none());
        assert!(generations.get("small", Uuid::from_u128(0)).is_some());
    }
}
