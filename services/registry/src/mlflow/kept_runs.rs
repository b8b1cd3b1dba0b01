//! What was logged into runs, kept in memory as the JSON that is sent, so that a page of runs is one statement.
//!
//! Invariant: nothing is given out but for the etag that was just read with the run's row, and nothing is kept but under the etag that
//! was read with the contents, in one snapshot. What other servers over the same database log therefore shows at once.

use std::sync::{Arc, Mutex};

use sqlx::PgConnection;
use storage::tracking::runs::Run;
use storage::tracking::{self, Contents};
use uuid::Uuid;

use super::generations::{Generations, Weighed};
use super::run_views::Logged;

/// How much is kept, at most.
const MOST_BYTES: usize = 32 << 20;

/// What an entry takes besides its JSON, about.
const ENTRY_BYTES: usize = 256;

/// The runs that were asked for lately, shared by the whole process.
#[derive(Clone)]
pub(crate) struct KeptRuns(Arc<Mutex<Generations<String, Kept>>>);

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
        runs.iter().map(|run| current(&mut generations, run)).collect()
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

impl Weighed for Kept {
    fn size_bytes(&self) -> usize {
        self.logged.size_bytes() + ENTRY_BYTES
    }
}

/// What was logged into a run, if it is kept as it is now.
fn current(generations: &mut Generations<String, Kept>, run: &Run) -> Option<Arc<Logged>> {
    let kept = generations.get(&run.id)?;
    (kept.etag == run.contents_etag).then(|| Arc::clone(&kept.logged))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        Run {
            id: "r".to_owned(),
            experiment_id: 1,
            name: String::new(),
            user_id: String::new(),
            status: "RUNNING".to_owned(),
            start_ms: 1,
            end_ms: None,
            artifact_uri: String::new(),
            lifecycle_stage: "active".to_owned(),
            contents_etag: Uuid::nil(),
        }
    }

    fn kept(etag: u128, tag: &str) -> Kept {
        let tags = vec![("t".to_owned(), tag.to_owned())];
        let contents = Contents { tags, ..Contents::default() };
        Kept { etag: Uuid::from_u128(etag), logged: Arc::new(Logged::of(&contents)) }
    }

    #[test]
    fn only_the_etag_that_was_read_with_the_contents_is_answered() {
        let mut generations = Generations::of(1 << 20);
        let run = |etag| Run { contents_etag: Uuid::from_u128(etag), ..run() };
        generations.put("r".to_owned(), kept(1, "a"));
        assert!(current(&mut generations, &run(1)).is_some());
        assert!(current(&mut generations, &run(2)).is_none());
        generations.put("r".to_owned(), kept(2, "b"));
        assert!(current(&mut generations, &run(2)).is_some());
        assert!(current(&mut generations, &run(1)).is_none());
    }
}
