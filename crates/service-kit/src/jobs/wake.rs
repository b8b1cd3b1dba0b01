//! Notifications of new work: one connection of a process listens, and the loops whose kinds are named hear.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use sqlx::postgres::{PgListener, PgNotification};
use storage::jobs::WAKE_CHANNEL;
use tokio::sync::Notify;

use crate::Context;

/// What tells the job loops of a process of new work.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    ears: Mutex<Vec<(Vec<String>, Arc<Notify>)>>,
    listening: AtomicBool,
}

impl Wake {
    /// An ear for these kinds. The first of a process opens the connection.
    pub(super) fn knocks(&self, context: &Context, kinds: &[String]) -> Knocks {
        let ear = Arc::new(Notify::new());
        self.ears().push((kinds.to_vec(), Arc::clone(&ear)));
        if !self.0.listening.swap(true, Ordering::SeqCst) {
            context.tasks.spawn(listen(context.clone(), self.clone()));
        }
        Knocks(ear)
    }

    /// Tells those who work on a kind; all if it is not known.
    fn tell(&self, kind: Option<&str>) {
        let concerns = |kinds: &[String]| kind.is_none_or(|kind| kinds.iter().any(|known| known == kind));
        self.ears().iter().filter(|(kinds, _)| concerns(kinds)).for_each(|(_, ear)| ear.notify_one());
    }

    fn ears(&self) -> MutexGuard<'_, Vec<(Vec<String>, Arc<Notify>)>> {
        self.0.ears.lock().expect("no holder of this lock can panic")
    }
}

/// Hears until the context stops; a lost connection is replaced, and polling bridges the gap.
async fn listen(context: Context, wake: Wake) {
    while !context.stop.is_cancelled() {
        let heard = async {
            let mut listener = PgListener::connect_with(&context.db).await?;
            listener.listen(WAKE_CHANNEL).await?;
            wake.tell(None); // work may have come before we listened
            loop {
                // none: the connection was lost and made anew, and we know not what was missed
                let heard = listener.try_recv().await?;
                wake.tell(heard.as_ref().map(PgNotification::payload));
            }
        };
        let ended: Result<(), sqlx::Error> = tokio::select! {
            ended = heard => ended,
            () = context.stop.cancelled() => return,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "the connection that listens for work was lost");
            tokio::time::sleep(context.config.jobs.poll()).await;
        }
    }
}

/// One loop's ear. A knock that came while nobody waited is not lost.
pub(super) struct Knocks(Arc<Notify>);

impl Knocks {
    /// Waits for a knock, the time to look by oneself, or the end.
    pub(super) async fn wait(&self, context: &Context) {
        tokio::select! {
            () = self.0.notified() => {}
            () = tokio::time::sleep(context.config.jobs.poll()) => {}
            () = context.stop.cancelled() => {}
        }
    }
}
