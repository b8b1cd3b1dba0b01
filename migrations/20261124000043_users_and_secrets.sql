-- People who may use MLflow's routes by name and password. Whoever holds the configured token needs no row.
create table users (
    user_id       bigint      primary key generated always as identity,
    username      text        not null constraint users_username unique,
    password_hash text        not null,  -- Argon2id, with its salt and parameters
    is_admin      boolean     not null default false,
    created_at    timestamptz not null
);

-- Keys that this installation made for itself, such as the one that signs links.
create table secrets (
    name text  primary key,
    key  bytea not null
);
