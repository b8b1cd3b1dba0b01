-- The role that dashboards use: it may read the `grafana_…` views and nothing else. Run it after migrations, again after new ones:
--   psql -v ON_ERROR_STOP=1 -v password="$GRAFANA_READER_PASSWORD" -f reader.sql
select 'create role grafana_reader login' where not exists (select from pg_roles where rolname = 'grafana_reader')
\gexec
alter role grafana_reader with login nosuperuser nocreatedb nocreaterole connection limit 10 password :'password';
alter role grafana_reader set default_transaction_read_only = on;
alter role grafana_reader set statement_timeout = '20s';
grant usage on schema public to grafana_reader;
select format('grant select on %I.%I to grafana_reader', schemaname, viewname)
from pg_views where schemaname = 'public' and viewname like 'grafana\_%'
\gexec
