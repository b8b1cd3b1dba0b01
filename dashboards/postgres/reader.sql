-- The role that dashboards use: it may read the `grafana_…` views and nothing else. Run it after migrations, again after new ones:
--   psql -v ON_ERROR_STOP=1 -v password="$GRAFANA_READER_PASSWORD" -f reader.sql
do $$
declare
    view_name text;
begin
    if not exists (select from pg_roles where rolname = 'grafana_reader') then
        create role grafana_reader;
    end if;
    revoke all on all tables in schema public from grafana_reader;
    grant usage on schema public to grafana_reader;
    for view_name in select viewname from pg_views where schemaname = 'public' and viewname like 'grafana\_%' loop
        execute format('grant select on public.%I to grafana_reader', view_name);
    end loop;
end $$;
alter role grafana_reader with login nosuperuser nocreatedb nocreaterole noinherit connection limit 10 password :'password';
alter role grafana_reader set default_transaction_read_only = on;
alter role grafana_reader set statement_timeout = '10s';
