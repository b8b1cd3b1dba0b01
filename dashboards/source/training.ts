// What is being made: training curves, runs, jobs, schedules, training sets. Jobs live by the machine's clock.

import {
  AxisPlacement,
  bars,
  barsOverTime,
  board,
  choice,
  colour,
  deployments,
  lyingBars,
  painted,
  project,
  rows,
  series,
  StackingMode,
  stat,
  steps,
  table,
  to,
  trend,
  VisibilityMode,
  VizOrientation,
  words,
} from './house.js';

const ofProject = 'project = ${project:sqlstring}';
const ended = `$__timeFilter(finished_at) and ${ofProject}`;
const states = [
  { field: 'succeeded', colour: colour.good },
  { field: 'running', colour: colour.quiet },
  { field: 'queued', colour: colour.doubtful },
  { field: 'cancelled', colour: colour.reference },
  { field: 'dead', colour: colour.bad },
];

const run = choice({
  name: 'run',
  query: `select c.run_id as __value, r.name || ' · ' || left(c.run_id, 8) as __text
          from grafana_training_curves c join grafana_runs r using (project, run_id)
          where c.project = \${project:sqlstring} group by 1, 2 order by max(c.at) desc, 1`,
  first: '',
});

const queued = stat({
  title: 'Queued',
  description: 'Jobs that wait for a worker.',
  targets: [rows(`select count(*) as queued from grafana_jobs where ${ofProject} and state = 'queued'`)],
  thresholds: steps(colour.good, [20, colour.doubtful], [200, colour.bad]),
});

const running = stat({
  title: 'Running',
  description: 'Jobs that hold a lease.',
  targets: [rows(`select count(*) as running from grafana_jobs where ${ofProject} and state = 'running'`)],
});

const dead = stat({
  title: 'Dead letters',
  description: 'Jobs that were given up after their last try, and messages that nobody took.',
  targets: [
    rows(`select (select count(*) from grafana_jobs where ${ofProject} and state = 'dead')
               + (select count(*) from grafana_notifications where ${ofProject} and state = 'dead') as dead`),
  ],
  thresholds: steps(colour.good, [1, colour.bad]),
});

const again = stat({
  title: 'Needed another try',
  description: 'Share of the jobs that ended in the time shown which took more than one attempt.',
  unit: 'percentunit',
  decimals: 1,
  targets: [rows(`select avg((attempts > 1)::integer)::double precision as share from grafana_jobs where ${ended}`)],
  thresholds: steps(colour.good, [0.05, colour.doubtful], [0.2, colour.bad]),
});

const worked = stat({
  title: 'Time worked',
  description: 'Seconds that jobs worked, of their last attempts, in the time shown.',
  unit: 's',
  decimals: 1,
  targets: [rows(`select sum(worked_seconds) as seconds from grafana_jobs where ${ended}`)],
});

const runs = stat({
  title: 'Runs',
  description: 'Tracking runs that are kept, ours and those of MLflow clients.',
  targets: [rows(`select count(*) as runs from grafana_runs where ${ofProject}`)],
});

const curves = trend(
  {
    title: 'Training curves',
    description:
      'The chosen run, by step: the loss of each stage, dashed on validation rows. Pretraining predicts the next ' +
      'token, so its ' +
      'loss is of another kind: it has the axis at the right.',
    decimals: 2,
    targets: [
      rows(`select step, max(loss) filter (where key = 'pretrain_loss') as "pretraining",
                   max(loss) filter (where key = 'tabular_loss') as "columns",
                   max(loss) filter (where key = 'tabular_validation_loss') as "columns, validation",
                   max(loss) filter (where key = 'joint_loss') as "joint",
                   max(loss) filter (where key = 'joint_validation_loss') as "joint, validation"
            from grafana_training_curves where ${ofProject} and run_id = \${run:sqlstring} group by step order by
            step`),
    ],
    exceptions: [
      { field: 'step', decimals: 0 },
      {
        field: 'pretraining',
        colour: colour.broken,
        custom: { axisPlacement: AxisPlacement.Right, axisLabel: 'pretraining' },
      },
      { field: 'columns', colour: colour.predicted },
      { field: 'columns, validation', colour: colour.predicted, custom: { lineStyle: { fill: 'dash', dash: [6, 6] } } },
      { field: 'joint', colour: colour.observed },
      { field: 'joint, validation', colour: colour.observed, custom: { lineStyle: { fill: 'dash', dash: [6, 6] } } },
    ],
  },
  'step',
  { showPoints: VisibilityMode.Always },
);

const runTable = table({
  title: 'Runs',
  description: 'The newest first, with the version that came of each and how far it learned.',
  targets: [
    rows(`select to_char(started_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as "started", name, registered_model as
      "model", version,
                 train_rows as "rows", train_seconds as "took", to_char(trained_through at time zone 'UTC',
                 'YYYY-MM-DD HH24:MI') as "learned through"
          from grafana_runs where ${ofProject} order by grafana_runs.started_at desc, run_id limit 100`),
  ],
  exceptions: [
    { field: /^(started|learned through)$/, width: 135 },
    {
      field: 'version',
      width: 70,
      links: [
        to('foretime-calibration', 'Its calibration', {
          project: '${project}',
          model: '${__data.fields.model:percentencode}',
          version: '${__value.raw}',
        }),
      ],
    },
    { field: 'rows', unit: 'short', width: 75 },
    { field: 'took', unit: 's', decimals: 1, width: 75 },
  ],
});

const queue = bars(
  {
    title: 'Jobs by kind and state',
    description: 'All that are kept.',
    targets: [
      rows(`select kind, count(*) filter (where state = 'succeeded') as "succeeded", count(*) filter (where state =
        'running') as "running",
                   count(*) filter (where state = 'queued') as "queued", count(*) filter (where state = 'cancelled')
                   as "cancelled",
                   count(*) filter (where state = 'dead') as "dead"
            from grafana_jobs where ${ofProject} group by 1 order by count(*) desc, 1`),
    ],
    exceptions: states,
  },
  { orientation: VizOrientation.Horizontal, stacking: StackingMode.Normal },
);

const durations = lyingBars({
  title: 'How long jobs take',
  description:
    'Seconds of the last attempt, of jobs that ended in the time shown: the middle one, and the slowest of twenty.',
  unit: 's',
  decimals: 2,
  targets: [
    rows(`select kind, percentile_cont(0.5) within group (order by worked_seconds) as "median",
                 percentile_cont(0.95) within group (order by worked_seconds) as "95 %"
          from grafana_jobs where ${ended} and worked_seconds is not null group by 1 order by 3 desc, 1`),
  ],
  exceptions: [
    { field: 'median', colour: colour.predicted },
    { field: '95 %', colour: colour.observed },
  ],
});

const finished = barsOverTime({
  title: 'Jobs that ended',
  description: 'One bar every half a minute in which a job ended, by kind.',
  targets: [
    series(`select date_bin('30 seconds', finished_at, 'epoch') as time, kind as metric, count(*) as "jobs"
            from grafana_jobs where ${ended} group by 1, 2 order by 1, 2`),
  ],
});

const schedules = table({
  title: 'Schedules',
  description: 'What starts by itself, and up to when it was looked after. A firing that was missed is caught up once.',
  targets: [
    rows(`select schedule, action, cron, time_zone as "time zone", to_char(last_fired at time zone 'UTC', 'YYYY-MM-DD
      HH24:MI') as "last fired",
                 to_char(seen_until at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as "seen until"
          from grafana_schedules where ${ofProject} order by schedule`),
  ],
  exceptions: [
    { field: /^(schedule|action)$/, width: 135 },
    { field: 'cron', width: 84 },
    { field: 'time zone', width: 135 },
    { field: /^(last fired|seen until)$/, width: 128 },
  ],
});

const troubles = table({
  title: 'Tries and dead letters, by kind',
  description:
    'Whether jobs of a kind fail: those given up, those that needed more tries, and what went wrong the last time.',
  targets: [
    rows(`select kind, count(*) filter (where state = 'dead') as "dead", count(*) filter (where attempts > 1) as
      "tried again",
                 max(attempts) as "most tries", to_char(max(finished_at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as
                 "latest end",
                 coalesce((array_agg(failure order by finished_at desc) filter (where failure is not null))[1],
                 'nothing') as "went wrong"
          from grafana_jobs where ${ofProject} group by 1 order by 2 desc, 3 desc, 1`),
  ],
  exceptions: [
    { field: 'dead', width: 65, thresholds: steps(colour.good, [1, colour.bad]), custom: painted.text },
    { field: 'tried again', width: 90, thresholds: steps(colour.good, [1, colour.doubtful]), custom: painted.text },
    { field: 'most tries', width: 90 },
    { field: 'latest end', width: 135 },
    { field: 'went wrong', mappings: words({ nothing: colour.good }) },
  ],
});

const sets = table({
  title: 'Training sets',
  description:
    'The newest first. Rows out equal rows in; leaked values are those learned after their row was asked about.',
  targets: [
    rows(`select created_at as "made", dataset, rows_in as "rows in", rows as "rows out", leaked_values as "leaked",
      max_seq as "up to ingest",
                 as_of as "labels known by", left(sha256, 16) as "sha-256"
          from grafana_training_sets where ${ofProject} order by created_at desc limit 50`),
  ],
  exceptions: [
    { field: /^(made|labels known by)$/, unit: 'dateTimeAsIso', width: 165 },
    { field: /^rows/, unit: 'locale' },
    { field: 'leaked', thresholds: steps(colour.good, [1, colour.bad]), custom: painted.text },
  ],
});

export default board({
  uid: 'foretime-training',
  title: 'training, jobs and schedules',
  description: 'What is being made and by whom: training curves, runs, jobs, schedules, dead letters.',
  variables: [project, run],
  tells: [deployments],
  from: 'now-6h',
  rows: [
    {
      height: 3,
      panels: [
        [4, queued],
        [4, running],
        [4, dead],
        [4, again],
        [4, worked],
        [4, runs],
      ],
    },
    {
      title: 'Training',
      height: 9,
      panels: [
        [10, curves],
        [14, runTable],
      ],
    },
    {
      title: 'Jobs',
      height: 9,
      panels: [
        [8, queue],
        [8, durations],
        [8, finished],
      ],
    },
    {
      title: 'Schedules and dead letters',
      height: 6,
      panels: [
        [13, schedules],
        [11, troubles],
      ],
    },
    { title: 'Training sets', height: 7, panels: [[24, sets]] },
  ],
});
