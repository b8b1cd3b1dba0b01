-- What users declared, as it was last applied. The files under version control are the source; this is what runs.
create table definitions (
    project    text        not null,
    kind       text        not null check (kind in ('entity', 'source', 'feature_view', 'event_stream', 'dataset',
                                                    'model', 'monitor', 'gate', 'schedule', 'channel')),
    name       text        not null check (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    body       jsonb       not null,               -- format 1: the object of `domain::definitions`
    format     integer     not null default 1,
    revision   integer     not null default 1,     -- counts changes of this object
    applied_at timestamptz not null,
    primary key (project, kind, name)
);

-- Every body that ever ran, so that an old training set can be explained.
create table definition_history (
    project    text        not null,
    kind       text        not null,
    name       text        not null,
    revision   integer     not null,
    body       jsonb       not null,
    applied_at timestamptz not null,
    primary key (project, kind, name, revision)
);
