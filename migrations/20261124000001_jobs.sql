-- Units of leased work. A row is its own lock: whoever holds the lease token may report on it.
create table jobs (
    job_id           uuid        primary key,
    project          text        not null,
    kind             text        not null,          -- names the handler; never renamed, old rows still wait
    payload          jsonb       not null,          -- ids, not data
    state            text        not null check (state in ('queued', 'running', 'succeeded', 'dead', 'cancelled')),
    priority         integer     not null default 0, -- larger runs first
    dedup_key        text,                          -- at most one live job a key
    run_after        timestamptz not null,
    attempts         integer     not null default 0 check (attempts >= 0),
    max_attempts     integer     not null check (max_attempts > 0),
    lease_token      uuid,
    lease_holder     text,                          -- for people: which process
    lease_expires_at timestamptz,
    progress         jsonb,                         -- whatever the handler last reported
    outcome          jsonb,                         -- what the handler answered
    failure          text,                          -- what went wrong the last time
    cancel_requested boolean     not null default false,
    created_at       timestamptz not null,
    started_at       timestamptz,
    finished_at      timestamptz,
    check ((state = 'running') = (lease_token is not null)),
    check ((lease_token is null) = (lease_expires_at is null))
);

create unique index jobs_one_live_per_dedup_key on jobs (project, kind, dedup_key)
    where state in ('queued', 'running');
create index jobs_claimable on jobs (kind, priority desc, run_after) where state = 'queued';
create index jobs_leased on jobs (lease_expires_at) where state = 'running';
create index jobs_by_time on jobs (project, created_at desc);

-- What a job said while it ran.
create table job_logs (
    job_id    uuid        not null references jobs on delete cascade,
    logged_at timestamptz not null,
    line      text        not null
);
create index job_logs_by_job on job_logs (job_id, logged_at);

-- Named leases held by one process at a time, such as the scheduler's.
create table leases (
    name       text        primary key,
    holder     text        not null,
    expires_at timestamptz not null
);
