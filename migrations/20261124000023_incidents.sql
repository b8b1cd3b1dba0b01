-- One row a time that something went wrong; re-opened if it is soon back.
create table incidents (
    incident_id      uuid        primary key,
    project          text        not null,
    monitor          text        not null,
    registered_model text        not null,
    version          integer     not null,      -- the one that served when it opened
    cause            text        not null check (cause in ('label-rate', 'calibration', 'input-drift', 'broken-data')),
    severity         text        not null check (severity in ('log', 'ticket', 'page')),
    state            text        not null check (state in ('firing', 'acknowledged', 'recovering', 'resolved')),
    summary          text        not null,
    evidence         jsonb       not null,      -- the strongest rows of `monitor_windows`, strongest first
    first_seen       timestamptz not null,      -- when the first bad window began
    opened_at        timestamptz not null,
    acknowledged_at  timestamptz,
    acknowledged_by  text,
    resolved_at      timestamptz,
    check ((acknowledged_at is null) = (acknowledged_by is null)),
    check ((state = 'resolved') = (resolved_at is not null))
);
create unique index incidents_one_open_per_cause on incidents (project, monitor, registered_model, cause)
    where state <> 'resolved';
create index incidents_by_time on incidents (project, opened_at desc);

-- What happened to an incident. Append-only.
create table incident_history (
    incident_history_id bigint      generated always as identity primary key,
    incident_id         uuid        not null references incidents,
    happened_at         timestamptz not null,
    change              text        not null,
    detail              jsonb       not null
);
create index incident_history_by_incident on incident_history (incident_id, incident_history_id);

-- The state machine's memory between windows, one row a monitor, model and cause.
create table incident_watches (
    project          text        not null,
    monitor          text        not null,
    registered_model text        not null,
    cause            text        not null,
    watch            jsonb       not null,      -- format 1: `domain::incident::Watch`
    format           integer     not null default 1,
    incident_id      uuid        references incidents, -- the latest
    judged_through   timestamptz not null,      -- the end of the last window it has seen
    primary key (project, monitor, registered_model, cause)
);
