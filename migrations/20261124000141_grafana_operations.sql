-- What the boards on jobs, schedules and the feature store read. They hold no payloads, no inputs, no secrets.

create view grafana_schedules as
select d.project, d.name as schedule, d.body ->> 'cron' as cron, coalesce(d.body ->> 'time_zone', 'UTC') as time_zone,
       (select string_agg(action.key || ' ' || (action.value #>> '{}'), ', ')
        from jsonb_each(d.body -> 'action') action) as action,
       f.seen_until, f.last_fired
from definitions d left join schedule_firings f on (f.project, f.schedule) = (d.project, d.name)
where d.kind = 'schedule';
comment on view grafana_schedules is
    'One row a schedule: what it starts and up to when its firings were looked after.';

create view grafana_runs as
select r.project, r.run_id, r.name, r.status, e.model_kind, e.evaluation ->> 'dataset' as dataset,
       v.registered_model, v.version,
       to_timestamp(r.start_ms / 1000.0) as started_at,
       (select max(m.value) from run_latest_metrics m
        where (m.project, m.run_id, m.key) = (r.project, r.run_id, 'train_seconds')) as train_seconds,
       (select max(m.value) from run_latest_metrics m
        where (m.project, m.run_id, m.key) = (r.project, r.run_id, 'train_rows')) as train_rows,
       (e.evaluation ->> 'trained_through')::timestamptz as trained_through,
       (e.evaluation ->> 'evaluated_from')::timestamptz as evaluated_from,
       (e.evaluation ->> 'evaluated_through')::timestamptz as evaluated_through
from runs r
left join model_evidence e using (project, run_id)
left join lateral (select model as registered_model, version from model_versions v
                   where (v.project, v.run_id) = (r.project, r.run_id) order by version limit 1) v on true
where r.lifecycle_stage = 'active';
comment on view grafana_runs is 'One row a tracking run, with the version it became and the days it learned from and was judged on.';

create view grafana_ingest_batches as
select project, source, seq, (answer ->> 'accepted')::bigint as accepted,
       (answer ->> 'rejected_stale')::bigint as stale,
       (answer ->> 'rejected_invalid')::bigint as invalid,
       (answer ->> 'rejected_erased')::bigint as erased,
       created_at
from ingest_batches;
comment on view grafana_ingest_batches is 'One row a batch that was sent with an idempotency key, and what became of its rows.';

create view grafana_online as
select v.project, v.view, v.version as view_version, v.created_at,
       greatest(c.reltuples, s.n_live_tup)::bigint as rows,
       pg_total_relation_size(c.oid) as size_bytes
from view_versions v
join pg_class c on c.relname = 'online_' || v.view_version_id and c.relnamespace = 'public'::regnamespace
left join pg_stat_all_tables s on s.relid = c.oid;
comment on view grafana_online is
    'One row a view version that is served online: rows as the database estimates them, and what they take with their index.';

create view grafana_view_statuses as
select t.project, t.training_set_id, t.dataset, t.created_at, views.key as view, statuses.key as status,
       (statuses.value #>> '{}')::double precision as share
from training_sets t
cross join lateral jsonb_each(t.manifest -> 'status_rates') views
cross join lateral jsonb_each(views.value) statuses;
comment on view grafana_view_statuses is
    'How often a training set found a value: one row a view and status, such as PRESENT, EXPIRED or NOT_FOUND.';
