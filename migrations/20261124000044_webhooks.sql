-- Who wants to hear of changes of models and prompts.
create table webhooks (
    webhook_id  uuid   primary key,
    project     text   not null,
    name        text   not null,
    description text,
    url         text   not null,
    events      text[] not null check (cardinality(events) > 0), -- such as `MODEL_VERSION.CREATED`
    secret      text,                                            -- signs what is sent; never shown
    status      text   not null check (status in ('ACTIVE', 'DISABLED')),
    created_ms  bigint not null,
    updated_ms  bigint not null
);
create index webhooks_by_project on webhooks (project, created_ms, webhook_id);

-- What is to be said to whom: written in the transaction of the change itself, delivered by a job.
create table webhook_deliveries (
    delivery_id  uuid        primary key, -- receivers see it, and tell a repetition by it
    webhook_id   uuid        not null references webhooks on delete cascade,
    entity       text        not null,
    action       text        not null,
    data         jsonb       not null,
    state        text        not null check (state in ('queued', 'delivered', 'dead')),
    attempts     integer     not null default 0,
    failure      text,                    -- what went wrong the last time
    created_at   timestamptz not null,
    delivered_at timestamptz,
    check ((state = 'delivered') = (delivered_at is not null))
);
create index webhook_deliveries_by_webhook on webhook_deliveries (webhook_id, created_at);
