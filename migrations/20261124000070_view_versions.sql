-- How stored rows of a view are read. A version's online rows lie in the table online_<view_version_id>, which is made with
-- this row and dropped never: what was built from an old version can still be explained.
create table view_versions (
    view_version_id bigint      generated always as identity primary key,
    project         text        not null,
    view            text        not null,
    version         integer     not null check (version > 0),
    layout          jsonb       not null,   -- keys, values, shape, source: `domain::definitions::Layout`
    revisions       jsonb       not null,   -- value columns of every revision, oldest first; a payload names its revision
    format          integer     not null default 1,
    created_at      timestamptz not null,
    unique (project, view, version)
);

-- Counts the applies of a project, so that a process can tell cheaply whether what it holds in memory is still true.
create table definition_epochs (
    project text   primary key,
    epoch   bigint not null
);
