-- Projects that MLflow's clients may name as their workspace, besides the configured one.
create table workspaces (
    name        text        primary key, -- the project
    description text,
    created_at  timestamptz not null
);
