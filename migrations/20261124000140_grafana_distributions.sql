-- What the boards on drift and calibration read: counts by bin, and what a training set's manifest says of its columns.

create view grafana_score_bins as
select p.project, p.registered_model, p.version, date_trunc('day', p.cutoff, 'UTC') as day,
       least(floor(p.probability * 15)::integer, 14) as bin,
       count(*) as predictions,
       sum(p.probability) as sum_probability,
       count(l.outcome) as matured,
       coalesce(sum(p.probability) filter (where l.outcome is not null), 0) as matured_sum_probability,
       count(*) filter (where l.outcome) as came_true
from predictions p left join labels l using (project, prediction_id)
group by 1, 2, 3, 4, 5;
comment on view grafana_score_bins is
    'One row a model version, day (UTC, by cutoff) and fifteenth of the probability, as sums that can be added up over days. '
    '`matured` counts the predictions whose outcome is known.';

create view grafana_evaluation_bins as
select v.project, v.model as registered_model, v.version, e.model_kind,
       least(floor((bin ->> 'predicted')::double precision * 15)::integer, 14) as bin,
       (bin ->> 'rows')::bigint as rows,
       (bin ->> 'predicted')::double precision as predicted,
       (bin #>> '{observed,value}')::double precision as observed,
       (bin #>> '{observed,low}')::double precision as observed_low,
       (bin #>> '{observed,high}')::double precision as observed_high
from model_versions v
join model_evidence e on (e.project, e.run_id) = (v.project, v.run_id)
cross join lateral jsonb_array_elements(e.evaluation -> 'reliability') bin;
comment on view grafana_evaluation_bins is
    'The reliability diagram that a version brought from its evaluation: one row a fifteenth of the probability that held rows, with '
    'the interval of what came true.';

create view grafana_evaluation_months as
select v.project, v.model as registered_model, v.version, e.model_kind, (months.key || '-01')::timestamp at time zone 'UTC' as month,
       (months.value ->> 'rows')::bigint as rows,
       (months.value #>> '{auc,value}')::double precision as auc,
       (months.value #>> '{auc,low}')::double precision as auc_low,
       (months.value #>> '{auc,high}')::double precision as auc_high,
       (months.value ->> 'log_loss')::double precision as log_loss,
       (months.value ->> 'ece')::double precision as ece,
       (months.value ->> 'ece_null_high')::double precision as ece_null_high
from model_versions v
join model_evidence e on (e.project, e.run_id) = (v.project, v.run_id)
cross join lateral jsonb_each(e.evaluation -> 'by_month') months;
comment on view grafana_evaluation_months is 'What a version brought from its evaluation, by month.';

create view grafana_feature_quantiles as
select t.project, t.training_set_id, t.dataset, t.created_at, splits.key as split, features.key as column_name,
       (array[0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])[quantiles.position] as level,
       (quantiles.value #>> '{}')::double precision as value
from training_sets t
cross join lateral jsonb_each(t.manifest -> 'windows') splits
cross join lateral jsonb_each(splits.value -> 'features') features
cross join lateral jsonb_array_elements(features.value -> 'quantiles') with ordinality quantiles (value, position)
where splits.key <> 'purged';
comment on view grafana_feature_quantiles is
    'Quantiles of the number columns of a training set: one row a split (train, validation, test), column and level.';

create view grafana_feature_levels as
select t.project, t.training_set_id, t.dataset, t.created_at, splits.key as split, features.key as column_name,
       top.value ->> 0 as level,
       (top.value ->> 1)::bigint as rows,
       (top.value ->> 1)::double precision / nullif((features.value ->> 'count')::bigint, 0) as share
from training_sets t
cross join lateral jsonb_each(t.manifest -> 'windows') splits
cross join lateral jsonb_each(splits.value -> 'features') features
cross join lateral jsonb_array_elements(features.value -> 'top') top
where splits.key <> 'purged';
comment on view grafana_feature_levels is
    'The commonest levels of the text columns of a training set: one row a split (train, validation, test), column and level.';

create view grafana_feature_statistics as
select t.project, t.training_set_id, t.dataset, t.created_at, splits.key as split, features.key as column_name,
       (features.value ->> 'count')::bigint as rows,
       (features.value ->> 'nulls')::double precision / nullif((features.value ->> 'count')::bigint, 0) as missing,
       (features.value ->> 'mean')::double precision as mean,
       (features.value ->> 'std')::double precision as std,
       (features.value ->> 'min')::double precision as least,
       (features.value ->> 'max')::double precision as greatest
from training_sets t
cross join lateral jsonb_each(t.manifest -> 'windows') splits
cross join lateral jsonb_each(splits.value -> 'features') features
where splits.key <> 'purged';
comment on view grafana_feature_statistics is
    'What the columns of a training set hold: one row a split (train, validation, test) and column. Texts have no mean.';
