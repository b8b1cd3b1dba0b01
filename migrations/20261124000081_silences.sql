-- Incidents that nobody wants to hear of for a while; they are still judged and kept.
create table silences (
    silence_id uuid        primary key,
    project    text        not null,
    silence    jsonb       not null,      -- format 1: `domain::silence::Silence`
    format     integer     not null default 1,
    ends_at    timestamptz not null,      -- by the platform's clock; moved up if somebody ends it early
    created_at timestamptz not null
);
create index silences_in_force on silences (project, ends_at);

alter table incidents drop constraint incidents_state_check;
alter table incidents add constraint incidents_state_check
    check (state in ('firing', 'acknowledged', 'silenced', 'recovering', 'resolved'));
