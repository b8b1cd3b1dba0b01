//! Every id has its own type, so that two of them cannot be swapped by accident.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
        #[serde(transparent)]
        pub struct $name(pub uuid::Uuid);

        impl $name {
            /// A new id; ids made later sort later.
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7())
            }

            /// When it was made, by the clock of the machine that made it; `None` if it was not made here.
            pub fn made_at(&self) -> Option<DateTime<Utc>> {
                let made = Some(self.0).filter(|id| id.get_version_num() == 7)?;
                let (seconds, nanos) = made.get_timestamp()?.to_unix();
                DateTime::from_timestamp(seconds.try_into().ok()?, nanos)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

typed_id!(/** Names one append-only file of a feature view. */ PartId);
typed_id!(/** Names one reader of parts. */ PartLeaseId);
typed_id!(/** Names one materialised training set. */ TrainingSetId);
typed_id!(/** Names one request to forget entities. */ ErasureId);
typed_id!(/** Names one file with a sample of what was served. */ ServedSampleId);
typed_id!(/** Names one unit of leased work. */ JobId);
typed_id!(/** Names one served answer. */ PredictionId);
typed_id!(/** Names one file of logged predictions. */ PredictionLogId);
typed_id!(/** Names one file of what waits to be published. */ SpoolId);
typed_id!(/** Names one incident of one monitor. */ IncidentId);
typed_id!(/** Names one message on its way to a channel. */ NotificationId);
typed_id!(/** Names one silence. */ SilenceId);
typed_id!(/** The secret that proves who holds a job's lease. */ LeaseToken);
