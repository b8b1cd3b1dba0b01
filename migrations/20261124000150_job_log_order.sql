-- Lines of one moment keep the order in which they were said.
alter table job_logs add column said_nth bigint generated always as identity;
create index job_logs_in_order on job_logs (job_id, said_nth);
drop index job_logs_by_job;
