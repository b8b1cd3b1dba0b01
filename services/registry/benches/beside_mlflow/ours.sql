insert into experiments (project, experiment_id, name, artifact_location, created_ms, updated_ms)
values ('default', 1000, 'seeded', 'mlflow-artifacts:/1000', 1, 1);
insert into runs (project, run_id, experiment_id, name, user_id, status, start_ms, artifact_uri)
select 'default', md5(n::text), 1000, 'run-' || n, 'ana', 'FINISHED', n, 'mlflow-artifacts:/1000/' || md5(n::text) || '/artifacts'
from generate_series(1, :runs) n;
insert into run_latest_metrics (project, run_id, key, timestamp_ms, step, value)
select 'default', md5(n::text), key, 1, 1, (n % 100) / 100.0 from generate_series(1, :runs) n, unnest(array['m', 'loss', 'auc']) key;
insert into run_params (project, run_id, key, value)
select 'default', md5(n::text), key, case when n % 5 = 0 then '1' else '3' end
from generate_series(1, :runs) n, unnest(array['p', 'depth', 'lr']) key;
insert into run_tags (project, run_id, key, value)
select 'default', md5(n::text), key, 'ana' from generate_series(1, :runs) n, unnest(array['mlflow.runName', 'team']) key;
