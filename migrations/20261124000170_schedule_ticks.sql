-- A schedule may be held still by somebody; what passes meanwhile is forgiven when it goes on.
alter table schedule_firings add column paused_at timestamptz;
alter table schedule_firings add column paused_by text;

-- What became of each tick that was looked after. The key is what keeps a tick from happening twice, whoever leads.
create table schedule_ticks (
    project  text        not null,
    schedule text        not null,
    tick_at  timestamptz not null,           -- by the schedule's own times; by the asking for one that was asked for
    state    text        not null check (state in ('waiting', 'enqueued', 'skipped')),
    job_id   uuid,                           -- what it started; the job itself may be collected later
    why      text        not null default '', -- what people should know: who asked, or why nothing was started
    noted_at timestamptz not null default clock_timestamp(),
    primary key (project, schedule, tick_at),
    check ((state = 'enqueued') = (job_id is not null))
);
create index schedule_ticks_waiting on schedule_ticks (project, schedule, tick_at) where state = 'waiting';
create index schedule_ticks_by_age on schedule_ticks (noted_at);
