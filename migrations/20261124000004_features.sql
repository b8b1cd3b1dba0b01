-- The offline store's manifest: one row per append-only Parquet file of a feature view. A file without a row is rubbish.
create table parts (
    part_id         uuid        primary key,
    project         text        not null,
    view            text        not null,
    view_version    integer     not null,
    seq             bigint      not null,   -- position of the ingest; a snapshot is "everything up to a seq"
    path            text        not null unique, -- relative to the data directory
    sha256          text        not null,
    size_bytes      bigint      not null,
    rows            bigint      not null check (rows > 0),
    min_event_time  timestamptz not null,
    max_event_time  timestamptz not null,
    max_known_time  timestamptz not null,
    created_at      timestamptz not null
);
create index parts_by_view on parts (project, view, view_version, seq);

-- The order of all ingests of all projects.
create sequence ingest_seq;

-- One row per accepted batch; the key makes a repeated batch answer what the first one answered.
create table ingest_batches (
    project         text        not null,
    source          text        not null,
    idempotency_key text        not null,
    seq             bigint      not null,
    answer          jsonb       not null,
    created_at      timestamptz not null,
    primary key (project, source, idempotency_key)
);

-- Rows that were not accepted, and why.
create table rejected_rows (
    project     text        not null,
    source      text        not null,
    seq         bigint      not null,
    position    integer     not null,      -- the row's number in its batch, from 0
    reason      text        not null,
    created_at  timestamptz not null,
    primary key (project, source, seq, position)
);

-- Online rows of views that serve the latest value: one row a key.
create table online_latest (
    project      text        not null,
    view         text        not null,
    view_version integer     not null,
    key          bytea       not null,      -- order-preserving tuple encoding
    event_time   timestamptz not null,
    known_time   timestamptz not null,
    seq          bigint      not null,
    op           boolean     not null,      -- true: the entity was taken away
    payload      bytea       not null,      -- format number, null bitmap, fixed slots, texts
    primary key (project, view, view_version, key)
);

-- Online rows of views that serve windows and sequences: the events of the longest window.
create table online_events (
    project      text        not null,
    view         text        not null,
    view_version integer     not null,
    key          bytea       not null,
    event_time   timestamptz not null,
    known_time   timestamptz not null,
    seq          bigint      not null,
    position     integer     not null,      -- the row's number in its batch
    op           boolean     not null,
    payload      bytea       not null,
    primary key (project, view, view_version, key, event_time, seq, position)
);

-- Materialised training sets. The file is immutable; `spec_hash` and `max_seq` say what it was made from.
create table training_sets (
    training_set_id uuid        primary key,
    project         text        not null,
    dataset         text        not null,
    spec_hash       text        not null,
    max_seq         bigint      not null,
    as_of           timestamptz not null,   -- labels known by then
    path            text        not null,   -- relative to the data directory
    sha256          text        not null,
    history_path    text,
    history_sha256  text,
    rows            bigint      not null,
    manifest        jsonb       not null,
    created_at      timestamptz not null
);
create index training_sets_by_dataset on training_sets (project, dataset, created_at desc);
