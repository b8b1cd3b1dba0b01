-- A model that ranks worse than it promised is a cause of its own.
alter table incidents drop constraint incidents_cause_check;
alter table incidents add constraint incidents_cause_check
    check (cause in ('label-rate', 'calibration', 'performance', 'input-drift', 'broken-data'));
