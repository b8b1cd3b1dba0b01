//! What a training set is built from: the parts that the manifest lists at one moment, kept on disk by a lease.

use std::collections::HashMap;

use chrono::TimeDelta;
use domain::definitions::{Dataset, Definitions};
use domain::ids::PartLeaseId;
use frames::assemble::Needed;
use frames::parts::{Part, Selection};
use frames::store::Store;
use frames::training_set::{ForeignSpine, Rows};
use frames::view::ViewRows;
use service_kit::Context;
use storage::governance::inputs::PartUsed;

use crate::Error;
use crate::parts::{readable, store_of};

/// How long a lease keeps replaced parts, if its holder dies.
const LEASE: TimeDelta = TimeDelta::hours(6);

/// Parts, and the lease on them.
pub(crate) struct Snapshot {
    pub(crate) lease: PartLeaseId,
    pub(crate) rows: SnapshotRows,
    /// What the training set will have been made of.
    pub(crate) used: Vec<PartUsed>,
}

/// The rows of parts up to a seq.
pub(crate) struct SnapshotRows {
    pub(crate) store: Store,
    parts: HashMap<String, Vec<Part>>,
    max_seq: i64,
    spine: Option<ForeignSpine>,
}

impl Snapshot {
    /// The parts of every view that a dataset reads, with rows up to a seq. The lease comes before the list, so that what is
    /// listed stays.
    pub(crate) async fn take(
        context: &Context,
        project: &str,
        definitions: &Definitions,
        dataset: &Dataset,
        max_seq: i64,
        spine: Option<ForeignSpine>,
    ) -> Result<Self, Error> {
        let needed = frames::assemble::needed(definitions, dataset)?;
        let views =
            needed.iter().map(|needed| needed.view.name.as_str()).chain(dataset.spine.view.as_deref());
        let mut tx = context.db.begin().await?;
        storage::parts::lock(&mut tx, project, false).await?;
        let lease = storage::parts::lease(&mut tx, project, context.machine_clock.now() + LEASE).await?;
        let (mut parts, mut used) = (HashMap::new(), Vec::new());
        for view in views {
            let listed = storage::parts::of_view(&mut tx, project, view, max_seq).await?;
            parts.insert(view.to_owned(), listed.iter().map(readable).collect());
            used.extend(listed.into_iter().map(part_used));
        }
        tx.commit().await?;
        Ok(Self { lease, rows: SnapshotRows { store: store_of(context)?, parts, max_seq, spine }, used })
    }
}

fn part_used(part: storage::parts::Part) -> PartUsed {
    PartUsed {
        part_id: part.id,
        view: part.view,
        view_version: part.view_version,
        path: part.path,
        sha256: part.sha256,
    }
}

impl Rows for SnapshotRows {
    type Error = Error;

    fn buckets(&self, view: &str) -> u32 {
        let parts = self.parts.get(view).map_or(&[][..], Vec::as_slice);
        parts.iter().map(|part| part.bucket.of).max().unwrap_or(1)
    }

    fn read(&mut self, needed: &Needed<'_>, wanted: &Selection) -> Result<ViewRows, Error> {
        let parts = self.parts.get(&needed.view.name).map_or(&[][..], Vec::as_slice);
        let wanted = Selection { max_seq: self.max_seq, ..*wanted };
        Ok(frames::parts::read(&self.store, &needed.schema, parts, &wanted)?)
    }

    fn spine(&mut self) -> Option<ForeignSpine> {
        self.spine.take()
    }
}
