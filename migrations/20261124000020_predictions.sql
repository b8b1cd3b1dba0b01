-- Files of served predictions: one row an Arrow file, written by whoever serves. A file without a row is rubbish.
create table prediction_logs (
    prediction_log_id uuid        primary key,
    project           text        not null,
    registered_model  text        not null,
    version           integer     not null,
    path              text        not null unique,   -- relative to the data directory
    sha256            text        not null,
    rows              bigint      not null check (rows > 0),
    first_cutoff      timestamptz not null,
    last_cutoff       timestamptz not null,
    created_at        timestamptz not null,
    check (first_cutoff <= last_cutoff)
);
create index prediction_logs_by_cutoff on prediction_logs (project, registered_model, version, last_cutoff);

-- Every served prediction, without its inputs: what labels join to.
create table predictions (
    project          text             not null,
    prediction_id    uuid             not null,
    registered_model text             not null,
    version          integer          not null,
    cutoff           timestamptz      not null,
    probability      double precision not null check (probability between 0 and 1),
    primary key (project, prediction_id)
);
create index predictions_by_cutoff on predictions (project, registered_model, version, cutoff);
