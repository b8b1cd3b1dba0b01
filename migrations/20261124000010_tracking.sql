-- Experiments, runs and logged models, as MLflow's clients know them. Times named `_ms` are milliseconds since 1970 exactly as
-- a client sent them: they may lie outside what a timestamptz can hold.
create sequence experiment_ids as bigint start 1;

create table experiments (
    project           text   not null,
    experiment_id     bigint not null default nextval('experiment_ids'), -- 0 is every project's `Default`
    name              text   not null,
    artifact_location text   not null,
    lifecycle_stage   text   not null default 'active' check (lifecycle_stage in ('active', 'deleted')),
    created_ms        bigint not null,
    updated_ms        bigint not null,
    primary key (project, experiment_id),
    constraint experiments_name unique (project, name)
);

create table experiment_tags (
    project       text   not null,
    experiment_id bigint not null,
    key           text   not null,
    value         text   not null,
    primary key (project, experiment_id, key),
    foreign key (project, experiment_id) references experiments on delete cascade
);

create table runs (
    project         text   not null,
    run_id          text   not null,
    experiment_id   bigint not null,
    name            text   not null,
    user_id         text   not null,
    status          text   not null check (status in ('RUNNING', 'SCHEDULED', 'FINISHED', 'FAILED', 'KILLED')),
    start_ms        bigint not null,
    end_ms          bigint,
    artifact_uri    text   not null,
    lifecycle_stage text   not null default 'active' check (lifecycle_stage in ('active', 'deleted')),
    primary key (project, run_id),
    foreign key (project, experiment_id) references experiments
);
create index runs_by_start on runs (project, experiment_id, start_ms desc, run_id);

create table run_params (
    project text not null,
    run_id  text not null,
    key     text not null,
    value   text not null,          -- written once: a parameter never changes
    primary key (project, run_id, key),
    foreign key (project, run_id) references runs on delete cascade
);

create table run_tags (
    project text not null,
    run_id  text not null,
    key     text not null,
    value   text not null,
    primary key (project, run_id, key),
    foreign key (project, run_id) references runs on delete cascade
);

-- Every point that was logged. A client that repeats a request adds nothing.
create table run_metrics (
    project      text             not null,
    run_id       text             not null,
    key          text             not null,
    timestamp_ms bigint           not null,
    step         bigint           not null,
    value        double precision not null, -- may be NaN; infinities are clipped to the largest finite number
    primary key (project, run_id, key, timestamp_ms, step, value),
    foreign key (project, run_id) references runs on delete cascade
);

-- The point of each metric with the greatest (step, timestamp, value): what searches compare.
create table run_latest_metrics (
    project      text             not null,
    run_id       text             not null,
    key          text             not null,
    timestamp_ms bigint           not null,
    step         bigint           not null,
    value        double precision not null,
    primary key (project, run_id, key),
    foreign key (project, run_id) references runs on delete cascade
);
create index run_latest_metrics_by_value on run_latest_metrics (project, key, value);

-- The data sets that a run read.
create table run_datasets (
    project     text  not null,
    run_id      text  not null,
    name        text  not null,
    digest      text  not null,
    source_type text  not null,
    source      text  not null,
    schema      text,
    profile     text,
    tags        jsonb not null default '{}', -- key → value; `mlflow.data.context` says what the run used it for
    primary key (project, run_id, name, digest),
    foreign key (project, run_id) references runs on delete cascade
);

create table logged_models (
    project         text   not null,
    model_id        text   not null,
    experiment_id   bigint not null,
    name            text   not null,
    artifact_uri    text   not null,
    status          text   not null check (status in ('LOGGED_MODEL_PENDING', 'LOGGED_MODEL_READY',
                                                      'LOGGED_MODEL_UPLOAD_FAILED')),
    model_type      text   not null,
    source_run_id   text,
    lifecycle_stage text   not null default 'active' check (lifecycle_stage in ('active', 'deleted')),
    created_ms      bigint not null,
    updated_ms      bigint not null,
    primary key (project, model_id),
    foreign key (project, experiment_id) references experiments
);
create index logged_models_by_time on logged_models (project, experiment_id, created_ms desc);

create table logged_model_params (
    project  text not null,
    model_id text not null,
    key      text not null,
    value    text not null,
    primary key (project, model_id, key),
    foreign key (project, model_id) references logged_models on delete cascade
);

create table logged_model_tags (
    project  text not null,
    model_id text not null,
    key      text not null,
    value    text not null,
    primary key (project, model_id, key),
    foreign key (project, model_id) references logged_models on delete cascade
);

create table logged_model_metrics (
    project        text             not null,
    model_id       text             not null,
    run_id         text             not null,
    key            text             not null,
    timestamp_ms   bigint           not null,
    step           bigint           not null,
    value          double precision not null,
    dataset_name   text,
    dataset_digest text,
    primary key (project, model_id, run_id, key, timestamp_ms, step),
    foreign key (project, model_id) references logged_models on delete cascade
);

-- The logged models that a run read or wrote.
create table run_models (
    project  text   not null,
    run_id   text   not null,
    model_id text   not null,
    role     text   not null check (role in ('input', 'output')),
    step     bigint not null default 0,
    primary key (project, run_id, role, model_id),
    foreign key (project, run_id) references runs on delete cascade
);

-- What was uploaded through the server. The bytes lie in a file of that path; clients may also list files without a row.
create table artifacts (
    project    text        not null,
    path       text        not null,   -- relative to the artifact root
    sha256     text        not null,   -- hex, taken while the bytes arrived
    size_bytes bigint      not null,
    stored_at  timestamptz not null,
    primary key (project, path)
);
