-- Every move of an alias, and every move that a gate refused. Rows are only ever added; each holds the hash of the one before.
-- No foreign key: what happened stays known after a model is gone.
create table alias_history (
    project       text        not null,
    model         text        not null,
    sequence      bigint      not null check (sequence > 0), -- 1, 2, 3, … within a model
    alias         text        not null,
    outcome       text        not null check (outcome in ('moved', 'refused', 'removed')),
    from_version  integer,
    to_version    integer,                                   -- null if removed
    actor         text        not null,
    reason        text,
    verdict       jsonb,                                     -- what the gate said; null without a gate
    at            timestamptz not null,
    previous_hash text        not null,                      -- 64 zeros in the first row
    hash          text        not null,                      -- SHA-256, in hex, over all of the above
    primary key (project, model, sequence),
    check ((outcome = 'removed') = (to_version is null))
);
create index alias_history_by_time on alias_history (project, model, alias, at desc);

create function alias_history_is_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'alias_history is append-only';
end;
$$;

create trigger alias_history_keeps_rows before update or delete on alias_history
    for each row execute function alias_history_is_append_only();
create trigger alias_history_keeps_all before truncate on alias_history
    for each statement execute function alias_history_is_append_only();
