//! Which runs meet the filter of a search, kept in memory: a page that is asked for again walks an index, and Postgres looks only
//! into runs that were not judged before as they are now.
//!
//! Invariant: a verdict is kept under its filter and the etag that was read, in one snapshot, with what was judged; contents never
//! change without their etag. Conditions on the run itself are no part of a verdict: Postgres holds them each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use storage::search::{Condition, Place, Search};
use storage::tracking::runs::{self, Next, Run};
use uuid::Uuid;

use super::generations::{Generations, Weighed};

/// How much is kept, at most: some hundred thousand verdicts.
const MOST_BYTES: usize = 8 << 20;

/// A filter, by a hash of its text, and the contents of a run, by their etag.
type Case = ([u8; 16], Uuid);

/// Whether the contents of a run meet a filter.
#[derive(Clone, Copy)]
struct Fits(bool);

impl Weighed for Fits {
    fn size_bytes(&self) -> usize {
        2 * size_of::<(Case, Self)>() // a map is between half and full
    }
}

/// What was judged lately, shared by the whole process.
#[derive(Clone)]
pub(crate) struct KeptVerdicts(Arc<Mutex<Generations<Case, Fits>>>);

impl Default for KeptVerdicts {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Generations::of(MOST_BYTES))))
    }
}

impl KeptVerdicts {
    /// The page of a search with this filter, if it is among the runs that come next and as many again; `None` if it is not, or if
    /// the search has no condition on contents or another order than that of the index.
    pub(crate) async fn page(
        &self,
        conn: &mut PgConnection,
        project: &str,
        filter: &str,
        search: &Search,
    ) -> Result<Option<Vec<(Run, Place)>>, storage::Error> {
        if !search.conditions.iter().any(Condition::is_of_contents) {
            return Ok(None);
        }
        let most = 2 * search.limit;
        let Some(runs) = runs::next(conn, project, search, most).await? else { return Ok(None) };
        let all = (runs.len() as i64) < most;
        let fits = self.fits(conn, project, filter, &search.conditions, &runs).await?;
        let found = runs.iter().zip(fits).filter(|(_, fits)| *fits);
        let found = found.take(usize::try_from(search.limit).unwrap_or_default());
        let found = found.map(|(run, _)| run.read()).collect::<Result<Vec<_>, _>>()?;
        Ok((all || found.len() as i64 == search.limit).then_some(found))
    }

    /// Whether each of these runs meets the conditions on its contents; one that is gone meanwhile does not.
    async fn fits(
        &self,
        conn: &mut PgConnection,
        project: &str,
        filter: &str,
        conditions: &[Condition],
        runs: &[Next],
    ) -> Result<Vec<bool>, storage::Error> {
        let filter = mark(filter);
        let mut fits = self.kept(filter, runs)?;
        let unknown = runs.iter().zip(&fits).filter(|(_, fits)| fits.is_none());
        let unknown = unknown.map(|(run, _)| run.id().map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
        if !unknown.is_empty() {
            let judged = runs::judge(conn, project, conditions, &unknown).await?;
            let mut generations = self.0.lock().expect("no holder of this lock can panic");
            for run in &judged {
                generations.put((filter, run.contents_etag), Fits(run.fits));
            }
            let judged: HashMap<&str, bool> =
                judged.iter().map(|judged| (judged.id.as_str(), judged.fits)).collect();
            for (run, fits) in runs.iter().zip(&mut fits).filter(|(_, fits)| fits.is_none()) {
                *fits = judged.get(run.id()?).copied();
            }
        }
        Ok(fits.into_iter().map(Option::unwrap_or_default).collect())
    }

    fn kept(&self, filter: [u8; 16], runs: &[Next]) -> Result<Vec<Option<bool>>, storage::Error> {
        let mut generations = self.0.lock().expect("no holder of this lock can panic");
        let mut kept = |run: &Next| {
            let case = (filter, run.contents_etag()?);
            Ok(generations.get(&case).map(|fits| fits.0))
        };
        runs.iter().map(&mut kept).collect()
    }
}

/// Sixteen bytes of a hash of a filter.
fn mark(filter: &str) -> [u8; 16] {
    let mut mark = [0; 16];
    mark.copy_from_slice(&Sha256::digest(filter)[..16]);
    mark
}
