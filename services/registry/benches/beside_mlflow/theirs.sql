insert into experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time)
values (1000, 'seeded', 'mlflow-artifacts:/1000', 'active', 1, 1);
insert into runs (run_uuid, experiment_id, name, user_id, status, start_time, artifact_uri, lifecycle_stage, source_type,
                  source_name, entry_point_name, source_version)
select md5(n::text), 1000, 'run-' || n, 'ana', 'FINISHED', n, 'mlflow-artifacts:/1000/' || md5(n::text) || '/artifacts',
       'active', 'UNKNOWN', '', '', ''
from generate_series(1, :runs) n;
insert into latest_metrics (run_uuid, key, timestamp, step, value, is_nan)
select md5(n::text), key, 1, 1, (n % 100) / 100.0, false from generate_series(1, :runs) n, unnest(array['m', 'loss', 'auc']) key;
insert into params (run_uuid, key, value)
select md5(n::text), key, case when n % 5 = 0 then '1' else '3' end
from generate_series(1, :runs) n, unnest(array['p', 'depth', 'lr']) key;
insert into tags (run_uuid, key, value)
select md5(n::text), key, 'ana' from generate_series(1, :runs) n, unnest(array['mlflow.runName', 'team']) key;
