-- The contents of artifacts, each kept once under its hash. `artifacts` gives them names.
create table blobs (
    sha256             text        primary key check (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes         bigint      not null check (size_bytes >= 0),
    names              bigint      not null default 0 check (names >= 0), -- how many rows of `artifacts` name it
    unreferenced_since timestamptz,                                       -- since when none does; null while one does
    check ((names = 0) = (unreferenced_since is not null))
);
create index blobs_unreferenced on blobs (unreferenced_since) where names = 0;

-- Whether the bytes lie in a blob; otherwise they lie in a file of the artifact's path, as a service of ours wrote it.
alter table artifacts add column in_blob boolean not null default false;
create index artifacts_by_path on artifacts (project, path text_pattern_ops);
