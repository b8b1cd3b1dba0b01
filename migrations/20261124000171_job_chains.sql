-- What follows from a job belongs to its chain, so that a loop can be told from end to end; null on older rows.
alter table jobs add column chain_id uuid;
create index jobs_of_chain on jobs (chain_id, created_at);
-- The request that asked for it, as in the logs.
alter table jobs add column request_id text;

-- Workers take the next jobs in this order, whatever their kinds.
create index jobs_next on jobs (priority desc, run_after, job_id) where state = 'queued';
drop index jobs_claimable;
-- Finished ones are collected by age.
create index jobs_finished on jobs (finished_at) where finished_at is not null;
