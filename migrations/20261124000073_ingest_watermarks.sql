-- The newest ingest of each project, set in the transaction of the ingest: a snapshot that sees it sees all up to it.
create table ingest_watermarks (
    project text   primary key,
    seq     bigint not null
);
insert into ingest_watermarks (project, seq) select project, max(seq) from parts group by project;
