//! The definitions of a project, held in memory.
//!
//! Every apply counts up a number in the database, in its own transaction. [`Catalogues::now`] compares that number at most
//! every [`CHECK_EVERY`] and loads again only if it moved: a request costs no query, and another process sees an apply at most
//! that much later. The process that applied calls [`Catalogues::exact`], so its next request sees what it wrote. Writers ask
//! [`Catalogues::exact`] inside their transaction: nothing is stored under definitions that are no longer true.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use domain::definitions::{Definitions, ViewVersions};
use sqlx::{PgConnection, PgPool};

use crate::Context;

/// How long definitions may serve before the database is asked whether they still hold.
pub const CHECK_EVERY: Duration = Duration::from_millis(500);

/// What is declared in a project, and how its views' rows are read.
#[derive(Debug)]
pub struct Catalogue {
    /// The apply that made it so.
    pub epoch: i64,
    /// All objects.
    pub definitions: Definitions,
    /// The newest version of each view.
    pub views: ViewVersions,
}

#[derive(Clone, Debug)]
struct Held {
    catalogue: Arc<Catalogue>,
    checked: Instant,
}

/// The catalogues of this process, by project.
#[derive(Clone, Debug)]
pub struct Catalogues {
    db: PgPool,
    held: Arc<Mutex<HashMap<String, Held>>>,
    checking: Arc<tokio::sync::Mutex<()>>,
}

impl Catalogues {
    /// The catalogues of this process.
    pub fn of(context: &Context) -> Self {
        let db = context.db.clone();
        context.shared(|_| Self { db, held: Arc::default(), checking: Arc::default() })
    }

    /// What is declared, as of [`CHECK_EVERY`] ago at worst.
    ///
    /// # Errors
    /// If the database has to be asked and refuses.
    pub async fn now(&self, project: &str) -> Result<Arc<Catalogue>, storage::Error> {
        let held = self.held(project);
        if let Some(held) = held.as_ref().filter(|held| held.checked.elapsed() < CHECK_EVERY) {
            return Ok(Arc::clone(&held.catalogue));
        }
        // One request looks; the others go on with what they have, unless there is nothing yet.
        let looking = match held {
            Some(held) => match self.checking.try_lock() {
                Ok(guard) => guard,
                Err(_) => return Ok(held.catalogue),
            },
            None => self.checking.lock().await,
        };
        let mut conn = self.db.acquire().await?;
        let catalogue = self.exact(&mut conn, project).await;
        drop(looking);
        catalogue
    }

    /// What is declared, as this connection's transaction sees it.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn exact(
        &self,
        conn: &mut PgConnection,
        project: &str,
    ) -> Result<Arc<Catalogue>, storage::Error> {
        let epoch = storage::definitions::epoch(conn, project).await?;
        let known = self.held(project).filter(|held| held.catalogue.epoch == epoch);
        let catalogue = match known {
            Some(held) => held.catalogue,
            None => Arc::new(Catalogue {
                epoch,
                definitions: storage::definitions::load(conn, project).await?,
                views: storage::view_versions::current(conn, project).await?,
            }),
        };
        self.hold(project, &catalogue);
        Ok(catalogue)
    }

    fn held(&self, project: &str) -> Option<Held> {
        self.held.lock().expect("no holder of this lock can panic").get(project).cloned()
    }

    fn hold(&self, project: &str, catalogue: &Arc<Catalogue>) {
        let held = Held { catalogue: Arc::clone(catalogue), checked: Instant::now() };
        let mut all = self.held.lock().expect("no holder of this lock can panic");
        if all.get(project).is_none_or(|known| known.catalogue.epoch <= held.catalogue.epoch) {
            all.insert(project.to_owned(), held);
        }
    }
}
