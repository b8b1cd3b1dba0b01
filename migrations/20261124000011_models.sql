-- Registered models, their versions and the aliases that say which version serves.
create table registered_models (
    project      text    not null,
    name         text    not null,
    description  text    not null default '',
    created_ms   bigint  not null,
    updated_ms   bigint  not null,
    last_version integer not null default 0, -- the counter of versions; numbers are never used again
    primary key (project, name)
);

create table registered_model_tags (
    project text not null,
    model   text not null,
    key     text not null,
    value   text not null,
    primary key (project, model, key),
    foreign key (project, model) references registered_models on update cascade on delete cascade
);

create table model_versions (
    project         text    not null,
    model           text    not null,
    version         integer not null check (version > 0),
    description     text    not null default '',
    stage           text    not null default 'None' check (stage in ('None', 'Staging', 'Production', 'Archived')),
    source          text    not null,      -- as the client named it, such as `models:/m-…`
    storage_uri     text    not null,      -- where the files are
    run_id          text,
    run_link        text    not null default '',
    logged_model_id text,
    made_by_run     boolean not null,      -- the files are known to be that run's own, so its evidence speaks for them
    created_ms      bigint  not null,
    updated_ms      bigint  not null,
    primary key (project, model, version),
    foreign key (project, model) references registered_models on update cascade on delete cascade,
    check (not made_by_run or run_id is not null)
);
create index model_versions_by_run on model_versions (project, run_id);

create table model_version_tags (
    project text    not null,
    model   text    not null,
    version integer not null,
    key     text    not null,
    value   text    not null,
    primary key (project, model, version, key),
    foreign key (project, model, version) references model_versions on update cascade on delete cascade
);

create table model_aliases (
    project text    not null,
    model   text    not null,
    alias   text    not null,
    version integer not null,
    primary key (project, model, alias),
    foreign key (project, model, version) references model_versions on update cascade on delete cascade
);
