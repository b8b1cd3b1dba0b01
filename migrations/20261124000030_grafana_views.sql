-- What dashboards read: views named `grafana_…`, so that a read-only role needs no grant on a table, and tables may change
-- without breaking a panel. They hold no inputs, no payloads, no secrets. Times are the platform's, as in the tables.

create view grafana_incidents as
select incident_id, project, monitor, registered_model, version, cause, severity, state, summary, first_seen, opened_at,
       acknowledged_at, acknowledged_by, resolved_at,
       extract(epoch from resolved_at - opened_at)::double precision as open_seconds
from incidents;
comment on view grafana_incidents is 'One row an incident; `open_seconds` is null while it is open.';

create view grafana_notifications as
select notification_id, n.project, incident_id, i.monitor, i.registered_model, i.cause, n.channel, n.event, n.state,
       n.attempts, n.failure, n.created_at, n.delivered_at
from notifications n join incidents i using (incident_id);
comment on view grafana_notifications is 'One row a message to people, without what it says.';

create view grafana_jobs as
select job_id, project, kind, state, priority, attempts, max_attempts, lease_holder, failure, created_at, run_after,
       started_at, finished_at,
       extract(epoch from started_at - run_after)::double precision as waited_seconds,
       extract(epoch from finished_at - started_at)::double precision as worked_seconds
from jobs;
comment on view grafana_jobs is 'One row a job, without its payload. `worked_seconds` is of the last attempt.';

create view grafana_daily_predictions as
select p.project, p.registered_model, p.version, date_trunc('day', p.cutoff, 'UTC') as day,
       count(*) as predictions,
       avg(p.probability) as mean_probability,
       count(l.outcome) as matured,
       avg(l.outcome::integer)::double precision as label_rate,
       avg(p.probability) filter (where l.outcome is not null) as matured_mean_probability,
       avg((p.probability - l.outcome::integer) ^ 2) as brier
from predictions p left join labels l using (project, prediction_id)
group by 1, 2, 3, 4;
comment on view grafana_daily_predictions is
    'One row a model version and day (UTC, by cutoff). `matured` counts the predictions whose outcome is known; the rate, its '
    'mean probability and the Brier score are over those.';

create view grafana_reliability as
select p.project, p.registered_model, p.version, date_trunc('month', p.cutoff, 'UTC') as month,
       least(floor(p.probability * 10)::integer, 9) as bin,
       count(*) as predictions,
       avg(p.probability) as mean_probability,
       avg(l.outcome::integer)::double precision as label_rate
from predictions p join labels l using (project, prediction_id)
group by 1, 2, 3, 4, 5;
comment on view grafana_reliability is
    'One row a model version, month and tenth of the probability, over predictions whose outcome is known.';

create view grafana_monitor_windows as
select project, monitor, registered_model, version, window_start, window_end, kind, column_name, measure, effect, low, high,
       current_value, reference_value, rows, n_eff, e_value, verdict, judged_at
from monitor_windows;
comment on view grafana_monitor_windows is 'One row a window, column and measure, as it was judged.';

create view grafana_training_sets as
select training_set_id, project, dataset, spec_hash, max_seq, as_of, sha256, rows,
       (manifest ->> 'rows_in')::bigint as rows_in,
       (manifest ->> 'leaked_values')::bigint as leaked_values,
       created_at
from training_sets;
comment on view grafana_training_sets is
    'One row a training set. `leaked_values` are values that were learned after their row''s cutoff: 0, or something is wrong.';

create view grafana_freshness as
select project, view, view_version, count(*) as parts, sum(rows)::bigint as rows, sum(size_bytes)::bigint as size_bytes,
       max(max_event_time) as newest_event_time, max(max_known_time) as newest_known_time, max(created_at) as last_ingest,
       max(seq) as max_seq
from parts
group by 1, 2, 3;
comment on view grafana_freshness is 'One row a feature view version: how much it holds and how new that is.';

create view grafana_model_versions as
select v.project, v.model as registered_model, v.version, v.run_id, e.model_kind,
       to_timestamp(v.created_ms / 1000.0) as created_at,
       (e.evaluation #>> '{overall,auc,value}')::double precision as auc,
       (e.evaluation #>> '{overall,auc,low}')::double precision as auc_low,
       (e.evaluation #>> '{overall,auc,high}')::double precision as auc_high,
       (e.evaluation #>> '{overall,log_loss}')::double precision as log_loss,
       (e.evaluation #>> '{overall,ece}')::double precision as ece,
       (e.evaluation #>> '{overall,ece_null_high}')::double precision as ece_null_high,
       (select string_agg(a.alias, ', ' order by a.alias) from model_aliases a
        where (a.project, a.model, a.version) = (v.project, v.model, v.version)) as aliases
from model_versions v left join model_evidence e on (e.project, e.run_id) = (v.project, v.run_id);
comment on view grafana_model_versions is 'One row a version with its evidence and the aliases that point at it now.';

create view grafana_alias_moves as
select project, model as registered_model, sequence, alias, outcome, from_version, to_version, actor, reason, at
from alias_history;
comment on view grafana_alias_moves is 'One row a move of an alias, or a move that a gate refused.';

create view grafana_training_curves as
select m.project, m.run_id, e.model_kind, m.key, m.step, m.value as loss, to_timestamp(m.timestamp_ms / 1000.0) as at
from run_metrics m join model_evidence e using (project, run_id)
where m.key like '%\_loss' and m.key not like 'test\_%';
comment on view grafana_training_curves is
    'One row a logged loss of a training run: `key` is the stage with `_loss` behind it, or `_validation_loss`.';
