-- What monitors found: one row a window, column and measure. A window is judged once; labels that come late judge it again.
create table monitor_windows (
    project          text             not null,
    monitor          text             not null,
    registered_model text             not null,
    version          integer          not null,
    window_start     timestamptz      not null,
    window_end       timestamptz      not null,
    kind             text             not null check (kind in ('input', 'score', 'label', 'calibration', 'performance')),
    column_name      text             not null,  -- '' where the measure is not about one column
    measure          text             not null,  -- states its definition, such as `ks_distance`, `ks_distance_14_windows`
    effect           double precision,           -- null where there is no value
    low              double precision,           -- of the effect's interval
    high             double precision,
    current_value    double precision,           -- both sides, where the effect is a difference of two numbers
    reference_value  double precision,
    rows             bigint           not null,
    n_eff            double precision,           -- how many independent rows they are worth
    e_value          double precision,           -- evidence against "the effect is at most the smallest worth naming"
    verdict          text             not null check (verdict in ('ok', 'drift', 'insufficient data', 'broken')),
    judged_at        timestamptz      not null,
    primary key (project, monitor, registered_model, version, window_start, kind, column_name, measure),
    check (window_start < window_end)
);
create index monitor_windows_by_time on monitor_windows (project, monitor, window_start);
