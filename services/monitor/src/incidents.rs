//! From what windows show to incidents, and from incidents to people and retraining: all in the caller's transaction.
//!
//! Which window is bad for which cause is decided here; what a run of bad windows becomes is `domain::incident`.

use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::{Definitions, Monitor};
use domain::ids::IncidentId;
use domain::incident::{Cause, Change, Look, Patience, Phase, Severity, Verdict, Watch, severity};
use domain::silence::Subject;
use serde_json::{Value, json};
use sqlx::PgConnection;
use storage::incidents::{NewIncident, StoredWatch};
use storage::monitors::{Finding, WindowKey};

use crate::Error;
use crate::drift::TRAILING;
use crate::telling::{Teller, is_silenced};
use crate::words::size;

/// How many findings an incident shows.
const SHOWN: usize = 5;

/// A judged window, with what is needed to act on it.
pub(crate) struct Judged<'a> {
    /// Where the monitor, its channels and models are declared.
    pub(crate) definitions: &'a Definitions,
    /// The monitor.
    pub(crate) monitor: &'a Monitor,
    /// Which window.
    pub(crate) key: &'a WindowKey,
    /// What was found.
    pub(crate) findings: &'a [Finding],
    /// The platform's time.
    pub(crate) now: DateTime<Utc>,
}

/// The causes that inputs and scores speak about.
pub(crate) const BY_INPUTS: &[Cause] = &[Cause::BrokenData, Cause::InputDrift];
/// The causes that labels speak about.
pub(crate) const BY_LABELS: &[Cause] = &[Cause::LabelRate, Cause::Calibration, Cause::Performance];

impl Judged<'_> {
    /// Shows the window to the watches over `causes`, and does what follows.
    pub(crate) async fn watch(&self, conn: &mut PgConnection, causes: &[Cause]) -> Result<(), Error> {
        for &cause in causes {
            self.watch_cause(conn, cause).await?;
        }
        Ok(())
    }

    async fn watch_cause(&self, conn: &mut PgConnection, cause: Cause) -> Result<(), Error> {
        let key = self.key;
        let stored =
            storage::incidents::watch(conn, &key.project, &key.monitor, &key.registered_model, cause).await?;
        if stored.is_some_and(|stored| stored.judged_through >= key.end) {
            return Ok(()); // judged again by late labels: what people were told stays told
        }
        let before = stored.map_or_else(Watch::default, |stored| stored.watch);
        let look = self.look(cause, before.is_open());
        let (watch, change) = before.after(look, key.start, key.end, self.patience(cause));
        let (watch, hush) = watch.hushed(self.is_silenced(conn, cause).await?);
        let latest = stored.and_then(|stored| stored.incident);
        let incident = self.act(conn, cause, look, &watch, change, latest).await?;
        if let (Some(hush), Some(id)) = (hush, incident) {
            self.hush(conn, id, &watch, hush).await?;
        }
        let stored = StoredWatch { watch, incident, judged_through: key.end };
        storage::incidents::save_watch(
            conn,
            &key.project,
            &key.monitor,
            &key.registered_model,
            cause,
            &stored,
        )
        .await?;
        Ok(())
    }

    /// Broken data is certain at once; for all else, one bad day is a day.
    pub(crate) fn patience(&self, cause: Cause) -> Patience {
        Patience {
            confirm: if cause == Cause::BrokenData { 1 } else { 2 },
            recover: self.monitor.recovery_windows.max(1),
            reopen_within: TimeDelta::hours(24),
        }
    }

    async fn is_silenced(&self, conn: &mut PgConnection, cause: Cause) -> Result<bool, Error> {
        let key = self.key;
        let subject = Subject {
            monitor: &key.monitor,
            model: &key.registered_model,
            cause,
            severity: self.severity(cause),
        };
        is_silenced(conn, &key.project, subject, self.now).await
    }

    /// What the window says about a cause.
    ///
    /// Broken data explains what it breaks: while a column is broken, its own drift and that of the scores say nothing.
    /// An incident is entered where a measure's interval lies beyond the bound, and left only once every estimate is back
    /// within it: in between, nothing changes.
    pub(crate) fn look(&self, cause: Cause, open: bool) -> Look {
        let broken = self.findings.iter().any(|finding| finding.verdict == Verdict::Broken);
        if !self.supporting(cause).is_empty() {
            return Look::Bad;
        }
        if (cause == Cause::InputDrift && broken) || (open && self.is_still_beyond(cause)) {
            return Look::Unknown;
        }
        let well = |finding: &Finding| speaks(cause, finding) && finding.verdict == Verdict::Ok;
        if self.findings.iter().any(well) { Look::Good } else { Look::Unknown }
    }

    /// Whether an estimate of the window itself lies beyond the bound, though its interval reaches back within it.
    fn is_still_beyond(&self, cause: Cause) -> bool {
        let beyond =
            |finding: &&Finding| finding.effect.is_some_and(|effect| effect > self.monitor.min_effect);
        let own = |finding: &&Finding| matches!(finding.measure.as_str(), "ks_distance" | "total_variation");
        let enough = |finding: &&Finding| finding.verdict != Verdict::InsufficientData;
        cause == Cause::InputDrift
            && self.findings.iter().filter(own).filter(enough).any(|finding| beyond(&finding))
    }

    /// Whether broken data explains a finding of drift.
    fn is_explained(&self, cause: Cause, finding: &Finding) -> bool {
        let mut broken = self.findings.iter().filter(|other| other.verdict == Verdict::Broken);
        cause == Cause::InputDrift
            && broken.any(|other| other.column == finding.column || finding.kind == "score")
    }

    /// The findings that show a cause, strongest first.
    fn supporting(&self, cause: Cause) -> Vec<&Finding> {
        let mut found: Vec<&Finding> = self
            .findings
            .iter()
            .filter(|finding| speaks(cause, finding) && finding.verdict == shown_by(cause))
            .filter(|finding| self.window_agrees(finding) && !self.is_explained(cause, finding))
            .collect();
        let size = |finding: &Finding| finding.effect.map_or(f64::INFINITY, f64::abs);
        found.sort_by(|a, b| size(b).total_cmp(&size(a)));
        found
    }

    /// A trailing measure of labels remembers what is over. It counts only as long as the window itself is beyond the bound
    /// too, or is too small to say. Evidence about inputs was asked whether the window bears it out.
    fn window_agrees(&self, finding: &Finding) -> bool {
        let Some(own) = finding.measure.strip_suffix(&format!("_{TRAILING}_windows")) else { return true };
        let own = self.findings.iter().find(|other| {
            other.kind == finding.kind && other.column == finding.column && other.measure == own
        });
        if matches!(finding.kind, "input" | "score" | "history") {
            return true;
        }
        let bound = self.monitor.min_rate_change;
        own.is_none_or(|own| {
            let size = if own.measure.starts_with("ece") { own.low } else { own.effect };
            own.verdict == Verdict::InsufficientData || size.is_some_and(|size| size.abs() > bound)
        })
    }

    async fn act(
        &self,
        conn: &mut PgConnection,
        cause: Cause,
        look: Look,
        watch: &Watch,
        change: Option<Change>,
        latest: Option<IncidentId>,
    ) -> Result<Option<IncidentId>, Error> {
        match (change, latest) {
            (Some(Change::Opened), _) => {
                let id = IncidentId::new();
                self.open(conn, id, cause, watch).await?;
                Ok(Some(id))
            }
            (Some(Change::Suspected | Change::Dismissed), _) | (_, None) => Ok(latest),
            (Some(change), Some(id)) => {
                storage::incidents::set_phase(conn, id, watch.phase, self.now).await?;
                storage::incidents::note(conn, id, change.as_str(), &self.window(), self.now).await?;
                match change {
                    Change::Reopened => self.tell(conn, id, "reopened", watch).await?,
                    Change::Resolved => self.tell(conn, id, "resolved", watch).await?,
                    _ => {}
                }
                Ok(Some(id))
            }
            (None, Some(id)) => {
                if look == Look::Bad && watch.is_open() && watch.phase != Phase::Recovering {
                    self.raise(conn, id, cause, watch).await?;
                }
                Ok(Some(id))
            }
        }
    }

    async fn open(
        &self,
        conn: &mut PgConnection,
        id: IncidentId,
        cause: Cause,
        watch: &Watch,
    ) -> Result<(), Error> {
        let first_seen = watch.since.unwrap_or(self.key.start);
        let incident = NewIncident {
            id,
            project: self.key.project.clone(),
            monitor: self.key.monitor.clone(),
            registered_model: self.key.registered_model.clone(),
            version: self.key.version,
            cause,
            severity: self.severity(cause),
            summary: self.summary(cause, first_seen),
            evidence: self.evidence(cause),
            first_seen,
        };
        storage::incidents::open(conn, &incident, self.now).await?;
        storage::incidents::note(conn, id, Change::Opened.as_str(), &self.window(), self.now).await?;
        self.tell(conn, id, "opened", watch).await?;
        if matches!(cause, Cause::LabelRate | Cause::Calibration | Cause::Performance) {
            self.retrain(conn, id).await?;
        }
        Ok(())
    }

    /// An incident that was only logged becomes a ticket once the scores move; then people are told, for the first time.
    async fn raise(
        &self,
        conn: &mut PgConnection,
        id: IncidentId,
        cause: Cause,
        watch: &Watch,
    ) -> Result<(), Error> {
        let open = storage::incidents::get(conn, &self.key.project, id).await?;
        let severity = self.severity(cause);
        if open.severity != Severity::Log.as_str() || severity == Severity::Log {
            return Ok(());
        }
        let summary = self.summary(cause, watch.since.unwrap_or(open.first_seen));
        storage::incidents::raise(conn, id, severity, &summary, &self.evidence(cause)).await?;
        storage::incidents::note(conn, id, "raised", &json!({ "to": severity.as_str() }), self.now).await?;
        self.tell(conn, id, "opened", watch).await
    }

    /// A silence began or ended for an open incident; what was not told because of it is told now.
    async fn hush(
        &self,
        conn: &mut PgConnection,
        id: IncidentId,
        watch: &Watch,
        hush: Change,
    ) -> Result<(), Error> {
        storage::incidents::set_phase(conn, id, watch.phase, self.now).await?;
        storage::incidents::note(conn, id, hush.as_str(), &json!({}), self.now).await?;
        if hush == Change::Unsilenced { self.tell(conn, id, "opened", watch).await } else { Ok(()) }
    }

    pub(crate) fn severity(&self, cause: Cause) -> Severity {
        let scores_moved = self.supporting(Cause::InputDrift).iter().any(|finding| finding.kind == "score");
        severity(cause, scores_moved)
    }

    fn window(&self) -> Value {
        json!({ "window_start": self.key.start, "window_end": self.key.end, "version": self.key.version })
    }

    fn evidence(&self, cause: Cause) -> Value {
        self.supporting(cause).into_iter().take(SHOWN).map(as_json).collect()
    }

    pub(crate) fn summary(&self, cause: Cause, since: DateTime<Utc>) -> String {
        let strongest = self.supporting(cause).first().map(|finding| in_words(finding)).unwrap_or_default();
        let (model, version) = (&self.key.registered_model, self.key.version);
        format!("{cause} in `{model}` v{version} since {}: {strongest}", since.format("%Y-%m-%dT%H:%MZ"))
    }

    /// Tells the monitor's channels, unless a silence covers the incident. What is only logged is not told.
    async fn tell(
        &self,
        conn: &mut PgConnection,
        id: IncidentId,
        event: &'static str,
        watch: &Watch,
    ) -> Result<(), Error> {
        let incident = storage::incidents::get(conn, &self.key.project, id).await?;
        if incident.severity == Severity::Log.as_str() || (watch.silenced && event != "resolved") {
            return Ok(());
        }
        let teller = Teller {
            definitions: self.definitions,
            monitor: self.monitor,
            project: &self.key.project,
            now: self.now,
        };
        teller.tell(conn, &incident, event, self.key.end).await
    }

    /// Asks for a new model, unless one was asked for within the cool-down or its budget is spent.
    async fn retrain(&self, conn: &mut PgConnection, id: IncidentId) -> Result<(), Error> {
        let Some(wish) = &self.monitor.on_incident else { return Ok(()) };
        let Some(model) = self.definitions.model(&wish.retrain) else { return Ok(()) }; // applying checks that it exists
        let last = storage::incidents::last_retrain(conn, &self.key.project, &model.name).await?;
        if let Some(last) = last.filter(|last| self.now - *last < wish.cool_down.delta()) {
            let detail = json!({ "model": model.name, "last": last, "cool_down": wish.cool_down });
            storage::incidents::note(conn, id, "retrain-held-back", &detail, self.now).await?;
            return Ok(());
        }
        if let Some(budget) = &wish.budget {
            let per = budget.per.delta();
            let spent = storage::jobs::worked_on(conn, &self.key.project, "train", &model.name, per).await?;
            if spent >= budget.train_time.delta() {
                let spent = format!("{}s", spent.num_seconds());
                let detail = json!({ "model": model.name, "spent": spent, "budget": budget });
                storage::incidents::note(conn, id, "retrain-held-back", &detail, self.now).await?;
                return Ok(());
            }
        }
        let reason = json!({ "incident": id });
        let job = crate::jobs::retrain(&self.key.project, &model.name, &model.dataset, &reason, self.now);
        let job = storage::jobs::enqueue(conn, &job).await?;
        let detail = json!({ "model": model.name, "job": job });
        storage::incidents::note(conn, id, "retrain", &detail, self.now).await?;
        Ok(())
    }
}

/// Whether a finding is about a cause at all.
fn speaks(cause: Cause, finding: &Finding) -> bool {
    match cause {
        Cause::BrokenData | Cause::InputDrift => matches!(finding.kind, "input" | "score" | "history"),
        Cause::LabelRate => finding.kind == "label" && is_trailing(finding),
        Cause::Calibration => finding.kind == "calibration" && is_trailing(finding),
        Cause::Performance => finding.kind == "performance" && is_trailing(finding),
    }
}

fn is_trailing(finding: &Finding) -> bool {
    finding.measure.ends_with(&format!("_{TRAILING}_windows"))
}

fn shown_by(cause: Cause) -> Verdict {
    if cause == Cause::BrokenData { Verdict::Broken } else { Verdict::Drift }
}

fn as_json(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind,
        "column": finding.column,
        "measure": finding.measure,
        "effect": finding.effect,
        "low": finding.low,
        "high": finding.high,
        "current": finding.current,
        "reference": finding.reference,
        "rows": finding.rows,
    })
}

/// `w_temp: ks_distance 0.41 [0.33, 0.47]`.
fn in_words(finding: &Finding) -> String {
    let subject = if finding.column.is_empty() { String::new() } else { format!("`{}`: ", finding.column) };
    match finding.effect {
        None => format!("{subject}{}", finding.measure),
        Some(effect) => {
            let sides = finding.current.zip(finding.reference);
            format!("{subject}{} {}", finding.measure, size(effect, (finding.low, finding.high), sides))
        }
    }
}
