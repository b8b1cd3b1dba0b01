-- Files with a sample of what was served, waiting to be recomputed from the offline store.
create table served_samples (
    sample_id  uuid        primary key,
    project    text        not null,
    view       text        not null,
    version    integer     not null,
    path       text        not null unique,  -- relative to the data directory
    sha256     text        not null,
    rows       bigint      not null check (rows > 0),
    created_at timestamptz not null,
    checked_at timestamptz
);
create index served_samples_unchecked on served_samples (project, created_at) where checked_at is null;

-- What the recomputation found, by feature: how many served values equal the offline store's.
create table parity_results (
    project    text        not null,
    view       text        not null,
    feature    text        not null,
    checked_at timestamptz not null,
    compared   bigint      not null,
    mismatched bigint      not null,         -- both have a value, and they differ
    missing    bigint      not null,         -- the offline store has a value, online had none
    extra      bigint      not null,         -- online had a value, the offline store has none
    primary key (project, view, feature, checked_at)
);
