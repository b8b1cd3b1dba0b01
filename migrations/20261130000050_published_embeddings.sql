-- Which rows of feature views a version of a model made: embeddings that were published, written down when they were taken in.
create table published_embeddings (
    project      text        not null,
    model        text        not null,
    version      integer     not null,
    view         text        not null,
    view_version integer     not null,
    seq          bigint      not null,  -- the position of the ingest: a training set up to it holds these rows
    rows         bigint      not null check (rows > 0),
    sha256       text        not null,  -- of the file that they came in
    published_at timestamptz not null,
    primary key (project, view, view_version, seq),
    foreign key (project, model, version) references model_versions on update cascade on delete cascade
);
create index published_embeddings_by_version on published_embeddings (project, model, version);
