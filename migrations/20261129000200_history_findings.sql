-- Findings about the histories that a model's GPT read: how unexpected they were, their tokens, their vectors.
alter table monitor_windows drop constraint monitor_windows_kind_check;
alter table monitor_windows add constraint monitor_windows_kind_check
    check (kind in ('input', 'score', 'history', 'label', 'calibration', 'performance'));
