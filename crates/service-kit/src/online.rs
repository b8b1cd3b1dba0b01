//! Reading the online store for many requests at once.
//!
//! A few readers share one queue. While all of them wait for the database, what arrives is queued; the next free reader takes
//! what waits (of large requests only a few), joins the questions by view and asks once. An idle store answers at once, a busy one in
//! batches, and nobody waits for a timer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::online::{Ask, Fetched};
use domain::{Fault, Remedy};
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::Context;

/// How many questions may be on their way to the database at a time.
const READERS: usize = 2;

/// How many requests one question may answer, at most.
const BATCH: usize = 128;

/// A question takes no further request once it holds this many keys: there is little to be saved by joining large requests, and all
/// of them would be answered when the last of their rows is there.
const KEYS: usize = 256;

/// How many requests may wait; past that they are told to come back.
const QUEUE: usize = 4096;

/// A reader gives its connection back after this long without work.
const IDLE: Duration = Duration::from_secs(1);

/// The online store could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// Too many requests wait already.
    #[error("the online store has {QUEUE} requests waiting; send this one again in a moment")]
    Busy,
    /// The process is about to end.
    #[error("the service is stopping; send the request again")]
    Stopping,
    /// The database refused; shared by all requests of a batch.
    #[error("{0}")]
    Storage(Arc<storage::Error>),
}

impl Fault for ReadError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Busy | Self::Stopping => Remedy::RetryLater,
            Self::Storage(cause) => cause.remedy(),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Stopping => "stopping",
            Self::Storage(cause) => cause.code(),
        }
    }
}

struct Waiting {
    asks: Vec<Ask>,
    answer: oneshot::Sender<Result<Arc<Fetched>, ReadError>>,
}

impl Waiting {
    fn keys(&self) -> usize {
        self.asks.iter().map(|ask| ask.keys.len()).sum()
    }
}

/// Reads the online store; one a process.
#[derive(Clone)]
pub struct Reader {
    queue: mpsc::Sender<Waiting>,
}

impl Reader {
    /// The reader of this process.
    pub fn of(context: &Context) -> Self {
        let owned = context.clone();
        context.shared(move |_| {
            let (queue, waiting) = mpsc::channel(QUEUE);
            let waiting = Arc::new(Mutex::new(waiting));
            for _ in 0..READERS {
                owned.tasks.spawn(read(owned.clone(), Arc::clone(&waiting)));
            }
            Self { queue }
        })
    }

    /// The rows that `asks` name, by view version, together with those that others asked for at the same time.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn fetch(&self, asks: Vec<Ask>) -> Result<Arc<Fetched>, ReadError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Waiting { asks, answer }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => ReadError::Busy,
            mpsc::error::TrySendError::Closed(_) => ReadError::Stopping,
        })?;
        answered.await.unwrap_or(Err(ReadError::Stopping))
    }
}

async fn read(context: Context, queue: Arc<Mutex<mpsc::Receiver<Waiting>>>) {
    let mut conn: Option<PoolConnection<Postgres>> = None;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let first = async {
            let mut queue = queue.lock().await;
            next(&mut queue, &mut batch).await
        };
        let taken = tokio::select! {
            taken = tokio::time::timeout(IDLE, first) => taken,
            () = context.stop.cancelled() => return,
        };
        match taken {
            Err(_) => conn = None,
            Ok(false) => return,
            Ok(true) => answer(&context, &mut conn, &mut batch).await,
        }
    }
}

/// Waits for a request and takes those that wait behind it, as far as they go into one question; false once no more will come.
async fn next(queue: &mut mpsc::Receiver<Waiting>, batch: &mut Vec<Waiting>) -> bool {
    let Some(first) = queue.recv().await else { return false };
    let mut keys = first.keys();
    batch.push(first);
    while batch.len() < BATCH && keys < KEYS {
        let Ok(another) = queue.try_recv() else { break };
        keys += another.keys();
        batch.push(another);
    }
    true
}

async fn answer(context: &Context, conn: &mut Option<PoolConnection<Postgres>>, batch: &mut Vec<Waiting>) {
    let asks = joined(batch);
    let fetched = fetch(context, conn, &asks).await.map(Arc::new).map_err(|error| {
        *conn = None;
        ReadError::Storage(Arc::new(error))
    });
    for waiting in batch.drain(..) {
        let _ = waiting.answer.send(fetched.clone()); // who gave up waiting needs no answer
    }
}

/// Asks by the connection in hand. One that broke while nothing was asked of it is replaced: reading twice changes nothing.
async fn fetch(
    context: &Context,
    conn: &mut Option<PoolConnection<Postgres>>,
    asks: &[Ask],
) -> Result<Fetched, storage::Error> {
    let project = &context.config.project;
    if let Some(mut held) = conn.take() {
        match storage::online::fetch(&mut held, project, asks).await {
            Err(error) if error.remedy() == Remedy::RetryLater => drop(held.detach()),
            fetched => {
                *conn = Some(held);
                return fetched;
            }
        }
    }
    storage::online::fetch(conn.insert(context.db.acquire().await?), project, asks).await
}

/// The questions of all requests, one a view version, in a fixed order so that the statement is one that is known.
fn joined(batch: &mut [Waiting]) -> Vec<Ask> {
    let mut by_version: HashMap<i64, Ask> = HashMap::new();
    for ask in batch.iter_mut().flat_map(|waiting| waiting.asks.drain(..)) {
        match by_version.get_mut(&ask.version_id) {
            None => {
                by_version.insert(ask.version_id, ask);
            }
            Some(known) => {
                known.keys.extend(ask.keys);
                known.since = known.since.min(ask.since);
            }
        }
    }
    let mut asks: Vec<Ask> = by_version.into_values().collect();
    asks.sort_unstable_by_key(|ask| ask.version_id);
    asks
}
