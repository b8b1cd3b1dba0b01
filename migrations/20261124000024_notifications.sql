-- Messages to people, written in the transaction that caused them and delivered by jobs.
create table notifications (
    notification_id uuid        primary key,
    project         text        not null,
    incident_id     uuid        not null references incidents,
    channel         text        not null,
    event           text        not null check (event in ('opened', 'reopened', 'resolved')),
    payload         jsonb       not null,
    state           text        not null check (state in ('queued', 'delivered', 'dead')),
    attempts        integer     not null default 0,
    failure         text,                       -- what went wrong the last time
    created_at      timestamptz not null,
    delivered_at    timestamptz,
    check ((state = 'delivered') = (delivered_at is not null))
);
create index notifications_by_incident on notifications (incident_id, created_at);
