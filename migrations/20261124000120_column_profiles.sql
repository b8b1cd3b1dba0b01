-- What a version is compared with, by column: made once of the training rows kept with the version.
create table reference_profiles (
    project          text        not null,
    registered_model text        not null,
    version          integer     not null,
    made_of          text        not null,  -- the file of its rows, relative to the data directory
    columns          jsonb       not null,  -- by column name: the profile, with the edges that all windows are counted over
    created_at       timestamptz not null,
    primary key (project, registered_model, version)
);

-- Served rows as profiles, by hour or, when they are old, by day: any window is a merge of these, and no rows are read again.
create table column_profiles (
    project          text        not null,
    registered_model text        not null,
    version          integer     not null,
    starts_at        timestamptz not null,
    seconds          integer     not null check (seconds in (3600, 86400)),  -- how long it is
    column_name      text        not null,
    rows             bigint      not null check (rows >= 0),
    profile          bytea,                 -- begins with the number of its format; null if the column was of another type
    updated_at       timestamptz not null,
    primary key (project, registered_model, version, starts_at, seconds, column_name)
);

-- The files of served rows that are in the profiles. A file that comes late opens the windows that it touches again.
create table profiled_logs (
    prediction_log_id uuid        primary key references prediction_logs on delete cascade,
    profiled_at       timestamptz not null
);

-- What was won, window by window, by betting that a column moved.
create table drift_evidence (
    project          text        not null,
    monitor          text        not null,
    registered_model text        not null,
    version          integer     not null,
    column_name      text        not null,
    judged_through   timestamptz not null,  -- the end of the last window taken
    evidence         jsonb       not null,
    primary key (project, monitor, registered_model, version, column_name)
);
