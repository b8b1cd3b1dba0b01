// What the models answer, what came true, what moved, what serves: one look in the morning.

import {
  bars,
  board,
  colour,
  demoDays,
  deployments,
  incidents,
  lines,
  model,
  monitor,
  painted,
  project,
  rows,
  series,
  stat,
  StackingMode,
  steps,
  table,
  to,
  version,
  words,
} from './house.js';
import { aucNow, calibrationNow, reliability, verdicts } from './shared.js';

const ofProject = 'project = ${project:sqlstring}';
const ofModel = `${ofProject} and registered_model = \${model:sqlstring}`;
const chosen = { project: '${project}', model: '${model}' };

const openIncidents = stat({
  title: 'Open incidents',
  description: 'Not resolved yet. The table below says which.',
  targets: [rows(`select count(*) as open from grafana_incidents where ${ofProject} and state <> 'resolved'`)],
  thresholds: steps(colour.good, [1, colour.doubtful], [3, colour.bad]),
});

const predictions = stat({
  title: 'Predictions',
  description: 'Rows answered in the time that is shown.',
  unit: 'short',
  targets: [
    rows(
      `select sum(predictions)::bigint as predictions from grafana_daily_predictions where $__timeFilter(day) and
        ${ofModel}`,
    ),
  ],
  links: [to('foretime-serving', 'Serving', { project: '${project}' })],
});

const leaked = stat({
  title: 'Values from the future',
  description:
    'In the training sets that are kept: values learned after their row was asked about. Anything but 0 is a defect.',
  targets: [
    rows(`select coalesce(sum(leaked_values), 0)::bigint as leaked from grafana_training_sets where ${ofProject}`),
  ],
  thresholds: steps(colour.good, [1, colour.bad]),
});

const dead = stat({
  title: 'Dead letters',
  description:
    'Jobs and messages that were given up. Each waits for somebody: `foretime jobs`, ' +
    '`POST /v1/notifications/{id}/retry`.',
  targets: [
    rows(`select (select count(*) from grafana_jobs where ${ofProject} and state = 'dead')
               + (select count(*) from grafana_notifications where ${ofProject} and state = 'dead') as dead`),
  ],
  thresholds: steps(colour.good, [1, colour.bad]),
  links: [to('foretime-training', 'Jobs', { project: '${project}' })],
});

const outcomes = lines({
  title: 'What was said, what came true',
  description:
    'By day of the question (UTC): the mean probability and the share that came true, over predictions whose ' +
    'outcome is known. ' +
    'They should lie on each other.',
  unit: 'percentunit',
  min: 0,
  targets: [
    series(`select day as time, sum(matured_mean_probability * matured) / sum(matured) as "predicted",
                   sum(label_rate * matured) / sum(matured) as "came true"
            from grafana_daily_predictions where $__timeFilter(day) and ${ofModel} and matured > 0 group by 1 order
            by 1`),
  ],
  exceptions: [
    { field: 'predicted', colour: colour.predicted },
    { field: 'came true', colour: colour.observed },
  ],
});

const toDrift = to('foretime-drift', 'Which columns', { ...chosen, monitor: '${monitor}' });

const moved = table({
  title: 'Columns that moved most',
  description:
    'By share of the windows shown that were called drifted; the distance is KS or total variation, over the ' +
    'trailing fortnight.',
  unit: 'percentunit',
  targets: [
    rows(`select column_name as "column", avg((verdict = 'drift')::integer)::double precision as "drifted windows",
                 max(effect) as "most", (array_agg(effect order by window_start desc))[1] as "latest"
          from grafana_monitor_windows
          where $__timeFilter(window_start) and ${ofModel} and monitor = \${monitor:sqlstring} and kind = 'input'
            and measure in ('ks_distance_14_windows', 'total_variation_14_windows')
          group by 1 order by 2 desc, 3 desc nulls last limit 30`),
  ],
  exceptions: [
    {
      field: 'column',
      links: [
        to('foretime-drift', 'Its windows', {
          ...chosen,
          monitor: '${monitor}',
          column: '${__value.raw:percentencode}',
        }),
      ],
    },
    {
      field: 'drifted windows',
      width: 140,
      decimals: 0,
      thresholds: steps(colour.good, [0.05, colour.doubtful], [0.25, colour.bad]),
      custom: painted.text,
    },
    { field: /^(most|latest)$/, unit: 'none', decimals: 2, width: 90 },
  ],
});

const incidentTable = table({
  title: 'Incidents',
  description: 'The latest first; `foretime` or `POST /v1/incidents/{id}/acknowledge` says that somebody looks.',
  targets: [
    rows(`select to_char(opened_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as "opened", severity, state, cause,
                 coalesce(substring(summary from 'Z: (.*)$'), summary) as "summary", registered_model || ' v' ||
                 version as "model",
                 coalesce(open_seconds, extract(epoch from (select max(window_end) from grafana_monitor_windows w
                          where w.monitor = i.monitor) - opened_at)) as "open for"
          from grafana_incidents i where $__timeFilter(opened_at) and ${ofProject} order by opened_at desc limit 200`),
  ],
  exceptions: [
    { field: 'opened', width: 135 },
    {
      field: 'severity',
      width: 80,
      mappings: words({ page: colour.bad, ticket: colour.doubtful, log: colour.quiet }),
      custom: painted.text,
    },
    {
      field: 'state',
      width: 115,
      mappings: words({
        firing: colour.bad,
        acknowledged: colour.doubtful,
        silenced: colour.doubtful,
        recovering: colour.quiet,
        resolved: colour.good,
      }),
      custom: painted.text,
    },
    { field: 'cause', width: 110 },
    { field: 'model', width: 115 },
    { field: 'open for', unit: 's', decimals: 1, width: 90 },
  ],
});

const messages = bars(
  {
    title: 'Messages to people',
    description:
      'About incidents, by what they say and what became of them. Those held back are told later, in a digest.',
    targets: [
      rows(`select event, count(*) filter (where state = 'delivered') as "delivered",
                 count(*) filter (where state = 'queued') as "queued", count(*) filter (where state = 'held-back') as
                 "held back",
                 count(*) filter (where state = 'dead') as "dead"
          from grafana_notifications where $__timeFilter(created_at) and ${ofProject} group by 1 order by 1`),
    ],
    exceptions: [
      { field: 'delivered', colour: colour.good },
      { field: 'queued', colour: colour.quiet },
      { field: 'held back', colour: colour.doubtful },
      { field: 'dead', colour: colour.bad },
    ],
  },
  { stacking: StackingMode.Normal },
);

const versions = table({
  title: 'Versions',
  description: 'With the evidence each was judged on, later than its training, and the aliases that point at it now.',
  targets: [
    rows(`select registered_model as "model", version, aliases, model_kind as "kind", auc as "AUC",
                 to_char(auc_low, '0.000') || ' –' || to_char(auc_high, '0.000') as "95 %", log_loss as "log-loss",
                 ece as "ECE", ece_null_high as "by chance"
          from grafana_model_versions where ${ofProject} order by registered_model, version desc limit 100`),
  ],
  exceptions: [
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
    { field: 'aliases', width: 90, mappings: words({ champion: colour.good }), custom: painted.text },
    { field: 'model', width: 110 },
    { field: 'kind', width: 95 },
    { field: /^(AUC|log|ECE)/, decimals: 3, unit: 'none', width: 75 },
    { field: 'by chance', decimals: 3, unit: 'none', width: 85 },
    { field: '95 %', width: 115 },
  ],
});

const moves = table({
  title: 'Moves of aliases',
  description: 'Asked moves, with what the gate said. The history is append-only.',
  targets: [
    rows(`select to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as "at", alias, outcome, from_version as
      "from", to_version as "to",
                 translate(coalesce(reason, ''), '{}"', '') as "reason"
          from grafana_alias_moves where $__timeFilter(at) and ${ofProject} order by sequence desc limit 100`),
  ],
  exceptions: [
    { field: 'at', width: 135 },
    { field: 'alias', width: 85 },
    {
      field: 'outcome',
      width: 80,
      mappings: words({
        moved: colour.good,
        refused: colour.doubtful,
        overridden: colour.bad,
        rolled_back: colour.bad,
      }),
      custom: painted.text,
    },
    { field: /^(from|to)$/, width: 50 },
  ],
});

export default board({
  uid: 'foretime-overview',
  title: 'overview',
  description: 'What the models answer, what came true, what moved, and what serves.',
  variables: [project, model, version, monitor],
  tells: [incidents, deployments],
  from: 'now-60d',
  links: [demoDays('foretime-overview')],
  rows: [
    {
      height: 4,
      panels: [
        [4, openIncidents],
        [4, calibrationNow],
        [4, aucNow],
        [4, predictions],
        [4, leaked],
        [4, dead],
      ],
    },
    {
      title: 'Does a probability mean what it says?',
      height: 9,
      panels: [
        [15, outcomes],
        [9, reliability('Reliability of what was served')],
      ],
    },
    {
      title: 'What moved?',
      height: 9,
      panels: [
        [13, verdicts('Verdicts on the inputs', [toDrift])],
        [11, moved],
      ],
    },
    {
      title: 'What was told?',
      height: 8,
      panels: [
        [18, incidentTable],
        [6, messages],
      ],
    },
    {
      title: 'What serves?',
      height: 8,
      panels: [
        [14, versions],
        [10, moves],
      ],
    },
  ],
});
