-- What versions trained elsewhere were found to be worth: their makers hand in what they foretold, the server judges it.
create table version_evidence (
    project      text        not null,
    model        text        not null,
    version      integer     not null,
    evaluation   jsonb       not null,   -- format 1: `domain::evaluation::Evaluation`
    format       integer     not null default 1,
    submitted_by text        not null,
    created_at   timestamptz not null,
    primary key (project, model, version),
    foreign key (project, model, version) references model_versions on update cascade on delete cascade
);

-- The evidence of every version that has some, wherever it was trained. A run's own comes first.
create view evidence_of_versions as
select version.project, version.model, version.version, evidence.evaluation, evidence.format
from model_evidence evidence
join model_versions version
  on version.project = evidence.project and version.run_id = evidence.run_id and version.made_by_run
union all
select project, model, version, evaluation, format
from version_evidence handed_in
where not exists (
    select 1 from model_versions version
    join model_evidence evidence on evidence.project = version.project and evidence.run_id = version.run_id
    where version.project = handed_in.project and version.model = handed_in.model
      and version.version = handed_in.version and version.made_by_run
);
