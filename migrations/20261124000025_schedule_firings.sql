-- Up to when each schedule has been looked after: firings up to here are done or forgiven.
create table schedule_firings (
    project    text        not null,
    schedule   text        not null,
    seen_until timestamptz not null,
    last_fired timestamptz,          -- the latest firing, by the schedule's own times
    primary key (project, schedule)
);
