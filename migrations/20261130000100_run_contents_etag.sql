-- A random value that is another one after everything that is logged into a run (metrics, parameters, tags, data sets, models). Whoever
-- keeps a run's contents keeps them under it and reads it anew with the run's row: as long as it is the same, so are they.
alter table runs set (fillfactor = 85); -- logging writes the row again: with room on its page no index is touched
alter table runs add column contents_etag uuid not null default gen_random_uuid();

-- Holds the run's row until the transaction ends, gives it a new etag, once a transaction and run, and answers its life stage; null if
-- there is no such run. What logs into a run calls this first, so that all lock the run before what belongs to it.
create function begin_logging(of_project text, of_run text) returns text language plpgsql as $$
declare
    stage text;
begin
    if current_setting('foretime.logging_into', true) = of_run || ' ' || of_project then
        select lifecycle_stage into stage from runs where project = of_project and run_id = of_run;
        return stage;
    end if;
    update runs set contents_etag = gen_random_uuid() where project = of_project and run_id = of_run
    returning lifecycle_stage into stage;
    perform set_config('foretime.logging_into', of_run || ' ' || of_project, true); -- forgotten when the transaction ends
    return stage;
end $$;

-- Sees to it for whoever did not, be it an older program or a hand at a console.
create function renew_contents_etag() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        perform begin_logging(old.project, old.run_id);
        return old;
    end if;
    perform begin_logging(new.project, new.run_id);
    return new;
end $$;
do $$
declare
    contents text;
begin
    foreach contents in array array['run_latest_metrics', 'run_params', 'run_tags', 'run_datasets', 'run_models'] loop
        execute format(
            'create trigger renew_contents_etag before insert or update on %I for each row
             when (current_setting(''foretime.logging_into'', true) is distinct from new.run_id || '' '' || new.project)
             execute function renew_contents_etag()', contents);
        execute format(
            'create trigger renew_contents_etag_of_less before delete on %I for each row
             execute function renew_contents_etag()', contents);
    end loop;
end $$;

-- A run that begins has a new etag: its first tags, in the same transaction, need no other.
create function begin_run() returns trigger language plpgsql as $$
begin
    perform set_config('foretime.logging_into', new.run_id || ' ' || new.project, true);
    return new;
end $$;
create trigger begin_run before insert on runs for each row execute function begin_run();
