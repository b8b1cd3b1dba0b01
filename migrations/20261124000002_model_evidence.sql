-- What a training run found about the model it made: the evidence that gates judge. One row a run.
create table model_evidence (
    project    text        not null,
    run_id     text        not null,   -- the tracking run that made the model
    model_kind text        not null,   -- such as `boosting`
    evaluation jsonb       not null,   -- format 1: `domain::evaluation::Evaluation`
    format     integer     not null default 1,
    created_at timestamptz not null,
    primary key (project, run_id)
);
