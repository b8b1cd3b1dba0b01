-- What came true. A label never changes: a second one with another outcome is refused.
create table labels (
    project       text        not null,
    prediction_id uuid        not null,
    outcome       boolean     not null,
    label_time    timestamptz not null,   -- when the outcome became known in the world
    received_at   timestamptz not null,   -- when we were told
    primary key (project, prediction_id),
    foreign key (project, prediction_id) references predictions
);
