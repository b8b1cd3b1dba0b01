-- Tokens of people and programs. What they show is `ft_<token_id>_<secret>`; only a hash of the secret is kept.
create table tokens (
    token_id   uuid        primary key,
    project    text,                       -- null: every project
    name       text        not null,       -- who shows it
    role       text        not null check (role in ('reader', 'writer', 'admin')),
    hash       text        not null,       -- Argon2id
    created_by text        not null,
    created_at timestamptz not null,
    expires_at timestamptz,                -- null: never
    revoked_at timestamptz
);
create index tokens_by_name on tokens (name, created_at);

-- Who changed what, of things that are not data: definitions, models' aliases, tokens, erasures, jobs.
create table audit (
    audit_id   bigint      generated always as identity primary key,
    at         timestamptz not null,
    actor      text        not null,
    role       text        not null,
    method     text        not null,
    path       text        not null,
    status     integer     not null,
    request_id text
);
create index audit_by_time on audit (at);
