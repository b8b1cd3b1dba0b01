-- What searches by a parameter or a tag begin at. An index holds no long text, so values are indexed by their first 200
-- characters; a search compares those and then the whole.
create index run_params_by_value on run_params (project, key, left(value, 200));
create index run_tags_by_value on run_tags (project, key, left(value, 200));
create index logged_model_params_by_value on logged_model_params (project, key, left(value, 200));
create index logged_model_tags_by_value on logged_model_tags (project, key, left(value, 200));
create index logged_model_metrics_by_value on logged_model_metrics (project, key, value);
create index registered_model_tags_by_value on registered_model_tags (project, key, left(value, 200));
create index model_version_tags_by_value on model_version_tags (project, key, left(value, 200));
-- The newest version of a stage.
create index model_versions_by_stage on model_versions (project, model, stage, version desc);
