-- Requests to forget entities: the journal. A row is written in the transaction that takes the online rows away; the job
-- that rewrites the offline parts finishes it, however often it has to begin again.
create table erasures (
    erasure_id   uuid        primary key,
    project      text        not null,
    entity       text        not null,
    reason       text        not null,
    key_count    integer     not null check (key_count > 0),
    horizon      timestamptz not null,      -- rows that happened by then are gone, and stay away if they are sent again
    requested_at timestamptz not null,
    finished_at  timestamptz,
    receipt      jsonb                      -- what was taken from where, with its hash; set when finished
);
create index erasures_by_project on erasures (project, requested_at desc);

-- Which keys must not come back, and up to when. It holds no feature, only what names the entity.
create table erased_keys (
    project    text        not null,
    entity     text        not null,
    key        bytea       not null,        -- order-preserving tuple encoding
    horizon    timestamptz not null,
    erasure_id uuid        not null references erasures,
    primary key (project, entity, key)
);

-- Training sets that hold rows of an entity that was erased since, and through them the models.
create table training_set_flags (
    training_set_id uuid        not null,
    erasure_id      uuid        not null references erasures,
    project         text        not null,
    flagged_at      timestamptz not null,
    primary key (training_set_id, erasure_id)
);

-- What each erasure took out of which file, written as the file is replaced: the receipt's lines, whoever finishes it.
create table erasure_parts (
    erasure_id   uuid    not null references erasures,
    view         text    not null,
    view_version integer not null,
    old_path     text    not null,          -- removed again when the erasure finishes, should a crash have left it
    old_sha256   text    not null,
    new_sha256   text,                      -- null if no row was left
    rows_removed bigint  not null check (rows_removed > 0),
    primary key (erasure_id, old_path)
);
