-- What stands behind a model version, beyond MLflow: its inputs, its files' hashes, its card, its signature, its approvals.

-- Which parts of the offline store a training set was made of. No foreign key: compaction and retention take parts away,
-- what was learned from them stays known.
create table training_set_parts (
    project         text    not null,
    training_set_id uuid    not null,
    part_id         uuid    not null,
    view            text    not null,
    view_version    integer not null,
    path            text    not null,  -- relative to the data directory, at the time
    sha256          text    not null,
    primary key (project, training_set_id, part_id)
);
create index training_set_parts_by_part on training_set_parts (project, part_id);
create index training_set_parts_by_hash on training_set_parts (project, sha256);

-- What a version trained elsewhere says it was made of. What is trained here is known from its run.
create table version_inputs (
    project     text        not null,
    model       text        not null,
    version     integer     not null,
    kind        text        not null check (kind in ('dataset', 'file', 'code', 'model')),
    name        text        not null,
    uri         text,
    sha256      text,
    details     jsonb       not null default '{}',
    recorded_by text        not null,
    recorded_at timestamptz not null,
    primary key (project, model, version, kind, name),
    foreign key (project, model, version) references model_versions on update cascade on delete cascade
);
create index version_inputs_by_hash on version_inputs (project, sha256);

-- The files of a version as they were when it was first looked at closely: what a later look is compared with.
create table version_files (
    project    text    not null,
    model      text    not null,
    version    integer not null,
    path       text    not null,        -- below the version's own folder
    sha256     text    not null,
    size_bytes bigint  not null,
    primary key (project, model, version, path),
    foreign key (project, model, version) references model_versions on update cascade on delete cascade
);
create index version_files_by_hash on version_files (project, sha256);

create table version_cards (
    project   text        not null,
    model     text        not null,
    version   integer     not null,
    markdown  text        not null,
    html      text        not null,
    frozen_at timestamptz not null,
    primary key (project, model, version),
    foreign key (project, model, version) references model_versions on update cascade on delete cascade
);

create table version_signatures (
    project   text        not null,
    model     text        not null,
    version   integer     not null,
    bundle    text        not null,     -- a sigstore bundle, version 0.3, as JSON
    key_id    text        not null,     -- SHA-256, in hex, of the public key as PEM
    signed_by text        not null,
    signed_at timestamptz not null,
    primary key (project, model, version),
    foreign key (project, model, version) references model_versions on update cascade on delete cascade
);

create table version_approvals (
    project     text        not null,
    model       text        not null,
    version     integer     not null,
    alias       text        not null,
    approved_by text        not null,
    reason      text        not null,
    approved_at timestamptz not null,
    primary key (project, model, version, alias, approved_by),
    foreign key (project, model, version) references model_versions on update cascade on delete cascade
);

-- A move past a gate, and a step back to what served before, are told apart from a move that passed.
alter table alias_history drop constraint alias_history_outcome_check;
alter table alias_history add constraint alias_history_outcome_check
    check (outcome in ('moved', 'refused', 'removed', 'overridden', 'rolled_back'));
