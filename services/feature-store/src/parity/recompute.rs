//! Recomputing a sample from the offline store.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use domain::online::{Fetched, OnlineRows};
use frames::keys::{Keys, bucket};
use frames::parts::{Bucket, Selection, buckets_for};
use frames::rows::write_cell;
use frames::served::Plan;
use frames::view::{ViewRows, ViewSchema};
use frames::{Frame, Values};
use service_kit::catalogue::Catalogue;
use storage::parity::{Parity, Sample};

use crate::parts::{readable, store_of};
use crate::{Error, FeatureStore};

/// Compares a sample with what the offline store says of the same moments. Of a view of several buckets one is looked at.
pub(super) async fn recompute(
    store: &FeatureStore,
    tx: &mut sqlx::PgConnection,
    sample: &Sample,
) -> Result<Vec<Parity>, Error> {
    let catalogue = store.catalogues.exact(tx, store.project()).await?;
    let current = catalogue.views.get(&sample.view).is_some_and(|known| known.version == sample.version);
    if !current {
        return Ok(vec![]); // a version that no longer serves
    }
    let listed = storage::parts::of_view(tx, store.project(), &sample.view, i64::MAX).await?;
    let data_dir = store.context.data_dir.clone();
    let (file, hash) = (data_dir.join(&sample.path), sample.sha256.clone());
    let place = store_of(&store.context)?;
    let view = sample.view.clone();
    let draw = RandomState::new().hash_one(sample.id);
    tokio::task::spawn_blocking(move || {
        frames::files::verify(&file, &hash)?;
        let mut served = grouped(&frames::files::read_arrow(&file)?)?;
        let schema = schema_of(&catalogue, &view)?;
        let wanted = Selection {
            bucket: drawn(&served, listed.iter().map(|part| part.rows).sum(), draw),
            ..Selection::up_to(i64::MAX)
        };
        served.retain(|key, _| bucket(key, wanted.bucket.of) == wanted.bucket.number);
        let (parts, keys): (Vec<_>, HashSet<_>) =
            (listed.iter().map(readable).collect(), served.keys().cloned().collect());
        let rows = frames::parts::read_keys(&place, &schema, &parts, &wanted, &keys)?;
        compare(&catalogue, &view, &schema, &served, &rows)
    })
    .await?
}

/// Of the buckets of a view of so many rows the one that a sampled entity is in: another one for another `draw`, so that in time each
/// entity that is followed is looked at.
fn drawn(served: &Served, rows: i64, draw: u64) -> Bucket {
    let of = buckets_for(rows);
    let mut keys: Vec<&Vec<u8>> = served.keys().collect();
    keys.sort_unstable();
    let place = (draw % keys.len().max(1) as u64) as usize;
    Bucket { number: keys.get(place).map_or(0, |key| bucket(key, of)), of }
}

fn schema_of(catalogue: &Catalogue, view: &str) -> Result<ViewSchema, Error> {
    let definition = catalogue.definitions.feature_view(view).ok_or_else(|| gone(view))?;
    Ok(frames::assemble::schema_of(&catalogue.definitions, definition)?)
}

fn compare(
    catalogue: &Catalogue,
    view: &str,
    schema: &ViewSchema,
    served: &Served,
    rows: &ViewRows,
) -> Result<Vec<Parity>, Error> {
    let definition = catalogue.definitions.feature_view(view).ok_or_else(|| gone(view))?;
    let version = catalogue.views.get(view).ok_or_else(|| gone(view))?;
    let keys = rows.keys(schema)?;
    let mut places: HashMap<&[u8], Vec<u32>> = HashMap::new();
    for row in 0..rows.rows() {
        places.entry(keys.get(row).unwrap_or_default()).or_default().push(row as u32);
    }
    let mut found: HashMap<String, Parity> = HashMap::new();
    for (key, moments) in served {
        // All versions of this entity that the offline store holds, as the online store would hold them.
        let own = rows.take(places.get(&key[..]).map_or(&[], Vec::as_slice));
        for (&(served_at, seq), values) in moments {
            let then = known_then(&own, served_at, seq);
            let online = then.online(schema, definition, version.revision(), served_at)?;
            let fetched = Fetched { rows: HashMap::from([(version.id, sorted(online))]), seq };
            recheck(catalogue, view, key, served_at, &fetched, values, &mut found)?;
        }
    }
    let mut found: Vec<Parity> = found.into_values().collect();
    found.sort_by(|a, b| a.feature.cmp(&b.feature));
    Ok(found)
}

fn gone(view: &str) -> Error {
    Error::BadRequest(format!("view `{view}` is no longer defined"))
}

fn sorted(mut rows: OnlineRows) -> OnlineRows {
    rows.sort();
    rows
}

/// `(feature, status, value)` as served.
type Told = Vec<(String, String, String)>;

/// What was served of one entity, by the moment and the newest ingest that could be seen.
type Moments = HashMap<(i64, i64), Told>;

/// Served values by key, then by moment and knowledge.
type Served = HashMap<Vec<u8>, Moments>;

fn grouped(served: &Frame) -> Result<Served, Error> {
    let text = |name: &str, row: usize| -> Result<String, frames::Error> {
        Ok(served.column(name)?.text_at(row).unwrap_or_default().to_owned())
    };
    let times = served.times("served_at")?;
    let Values::Integer(seqs) = served.column("seq")? else { return Ok(Served::new()) };
    let mut all = Served::new();
    for row in 0..served.rows() {
        let key = hex::decode(text("key", row)?).unwrap_or_default();
        let value = (text("feature", row)?, text("status", row)?, text("value", row)?);
        all.entry(key).or_default().entry((times[row], seqs[row])).or_default().push(value);
    }
    Ok(all)
}

/// What had been ingested up to a place in the order of ingests, had happened, and was known.
fn known_then(rows: &ViewRows, moment: i64, seq: i64) -> ViewRows {
    let kept: Vec<u32> = (0..rows.rows())
        .filter(|&row| {
            rows.seq[row] <= seq && rows.event_time[row] <= moment && rows.known_time[row] <= moment
        })
        .map(|row| row as u32)
        .collect();
    rows.take(&kept)
}

fn recheck(
    catalogue: &Catalogue,
    view: &str,
    key: &[u8],
    served_at: i64,
    offline: &Fetched,
    values: &Told,
    found: &mut HashMap<String, Parity>,
) -> Result<(), Error> {
    let references: Vec<String> = values.iter().map(|(feature, ..)| format!("{view}:{feature}")).collect();
    let Ok(plan) = Plan::of(&catalogue.definitions, &catalogue.views, &references) else { return Ok(()) };
    let keys = [Keys::encoded([key])];
    let answer = plan.answer(&keys, offline, served_at)?;
    for (at, (feature, status, value)) in values.iter().enumerate() {
        let now = answer.served(at, 0)?;
        let mut expected = Vec::new();
        write_cell(&mut expected, now.value);
        let parity = found.entry(feature.clone()).or_insert_with(|| Parity {
            view: view.to_owned(),
            feature: feature.clone(),
            ..Parity::default()
        });
        parity.compared += 1;
        match (value.as_str(), expected.as_slice()) {
            (served, offline) if served.as_bytes() == offline && status == now.status.name() => {}
            ("null", offline) if offline != b"null" => parity.missing += 1,
            (served, b"null") if served != "null" => parity.extra += 1,
            _ => parity.mismatched += 1,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_large_view_every_bucket_that_sampled_entities_are_in_has_its_turn() {
        let keys: Vec<Vec<u8>> = (0..40_u64).map(|number| number.to_be_bytes().to_vec()).collect();
        let served: Served = keys.iter().map(|key| (key.clone(), Moments::new())).collect();
        assert_eq!(drawn(&served, 1_000, 7), Bucket::ALL);
        assert_eq!(drawn(&Served::new(), 2_000_000, 7), Bucket { number: 0, of: 16 });
        let chosen: HashSet<u32> = (0..40).map(|draw| drawn(&served, 2_000_000, draw).number).collect();
        let all: HashSet<u32> = keys.iter().map(|key| bucket(key, 16)).collect();
        assert!(all.len() > 8, "{all:?}");
        assert_eq!(chosen, all);
    }
}
