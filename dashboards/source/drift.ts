// Which inputs moved, when, by how much; and how a column and the scores are distributed.

import {
  band,
  bars,
  board,
  choice,
  colour,
  dashes,
  demoDays,
  deployments,
  GraphThresholdsStyleMode,
  incidents,
  lines,
  lyingBars,
  matrix,
  model,
  monitor,
  painted,
  project,
  rows,
  scatter,
  series,
  StackingMode,
  stat,
  steps,
  table,
  to,
  VisibilityMode,
  version,
} from './house.js';
import { verdicts } from './shared.js';

const ofMonitor =
  'project = ${project:sqlstring} and registered_model = ${model:sqlstring} and monitor = ${monitor:sqlstring}';
const inputs = `$__timeFilter(window_start) and ${ofMonitor} and kind = 'input'`;
const chosen = { project: '${project}', model: '${model}' };
const perWindow = "measure in ('ks_distance', 'total_variation')";
const perFortnight = "measure in ('ks_distance_14_windows', 'total_variation_14_windows')";
const theColumn = 'column_name = ${column:sqlstring}';
const distance = steps(colour.good, [0.15, colour.doubtful], [0.3, 'orange'], [0.5, colour.bad]);

/** The set of which distributions are shown: the newest of those that the model's versions learned from. */
const newestSet = `(select training_set_id from grafana_feature_statistics where project = \${project:sqlstring}
                    and column_name = \${column:sqlstring} order by created_at desc, training_set_id limit 1)`;
const newestSetOfCategory = newestSet.replace('${column:sqlstring}', '${category:sqlstring}');

const column = choice({
  name: 'column',
  query: `select column_name from grafana_monitor_windows
          where ${ofMonitor} and kind = 'input' and measure = 'ks_distance_14_windows'
          group by 1 order by avg((verdict = 'drift')::integer) desc, max(effect) desc nulls last, 1`,
  first: '',
});

const category = choice({
  name: 'category',
  query: `select column_name from grafana_feature_levels where project = \${project:sqlstring}
          group by 1 order by column_name like '%\\_\\_%', 1`,
  first: '',
});

const watched = stat({
  title: 'Columns watched',
  description: 'Inputs that were judged in the time that is shown.',
  targets: [rows(`select count(distinct column_name) as columns from grafana_monitor_windows where ${inputs}`)],
});

const driftedNow = stat({
  title: 'Drifted, latest window',
  description:
    'Columns called drifted in the latest window: the distance exceeds what is worth naming, and not by chance.',
  targets: [
    rows(`select count(*) as drifted from grafana_monitor_windows
          where ${inputs} and ${perWindow} and verdict = 'drift'
            and window_start = (select max(window_start) from grafana_monitor_windows where ${inputs})`),
  ],
  thresholds: steps(colour.good, [1, colour.doubtful], [5, colour.bad]),
});

const brokenNow = stat({
  title: 'Broken, latest window',
  description: 'Columns whose data are broken in the latest window: missing, or of levels that were never seen.',
  targets: [
    rows(`select count(distinct column_name) as broken from grafana_monitor_windows
          where ${inputs} and verdict = 'broken'
            and window_start = (select max(window_start) from grafana_monitor_windows where ${inputs})`),
  ],
  thresholds: steps(colour.good, [1, colour.bad]),
});

const judged = stat({
  title: 'Latest window',
  description: 'The start of the latest window that was judged.',
  unit: 'dateTimeAsIso',
  targets: [
    rows(`select extract(epoch from max(window_start)) * 1000 as latest from grafana_monitor_windows where ${inputs}`),
  ],
});

const theMatrix = matrix({
  title: 'Drift matrix: distance of the trailing fortnight from training',
  description:
    'The 24 columns that moved furthest. KS distance for numbers, total variation for categories, of the rows of ' +
    'the fortnight that ' +
    'ends with each window: 0 is no change, 1 is no overlap. The first windows hold fewer rows, so they lie ' +
    'further away.',
  decimals: 2,
  min: 0,
  max: 1,
  thresholds: distance,
  targets: [
    series(`select window_start as time, column_name as metric, effect as "distance" from grafana_monitor_windows
            where ${inputs} and ${perFortnight} and column_name in (
              select column_name from grafana_monitor_windows where ${inputs} and ${perFortnight}
              group by 1 order by max(effect) desc nulls last, 1 limit 24)
            order by 1, 2`),
  ],
});

const ranking = table({
  title: 'Columns by distance',
  description: 'Over the trailing fortnight. A column is a link: it chooses what the panels below show.',
  decimals: 2,
  targets: [
    rows(`select column_name as "column", max(effect) as "most", (array_agg(effect order by window_start desc))[1] as
      "latest",
                 (array_agg(verdict order by window_start desc))[1] as "verdict",
                 count(*) filter (where verdict = 'drift') as "drifted"
          from grafana_monitor_windows where ${inputs} and ${perFortnight}
          group by 1 order by 5 desc, 2 desc nulls last, 1`),
  ],
  exceptions: [
    {
      field: 'column',
      links: [
        to('foretime-drift', 'Show it', { ...chosen, monitor: '${monitor}', column: '${__value.raw:percentencode}' }),
      ],
    },
    { field: /^(most|latest)$/, thresholds: distance, width: 75, custom: painted.text },
    { field: 'verdict', width: 110 },
    { field: 'drifted', width: 75, decimals: 0 },
  ],
});

const itsDistance = lines({
  title: 'Distance of $column, with its interval',
  description: 'Over the trailing fortnight, with the interval of the distance; and of single windows, as points.',
  min: 0,
  decimals: 2,
  targets: [
    series(`select window_start as time,
                   max(effect) filter (where ${perFortnight}) as "fortnight", max(low) filter (where ${perFortnight})
                   as "at least",
                   max(high) filter (where ${perFortnight}) as "at most", max(effect) filter (where ${perWindow}) as
                   "single window"
            from grafana_monitor_windows where ${inputs} and ${theColumn} group by 1 order by 1`),
  ],
  exceptions: [
    { field: 'fortnight', colour: colour.observed },
    ...band('at least', 'at most', colour.observed),
    {
      field: 'single window',
      colour: colour.reference,
      custom: { lineWidth: 0, showPoints: VisibilityMode.Always, pointSize: 5 },
    },
  ],
});

const itsMissing = lines({
  title: 'Missing values of $column',
  description: 'Share of rows without a value, in the window and in training.',
  unit: 'percentunit',
  min: 0,
  targets: [
    series(`select window_start as time, current_value as "window", reference_value as "training"
            from grafana_monitor_windows where ${inputs} and ${theColumn} and measure = 'missing_share_change' order
            by 1`),
  ],
  exceptions: [{ field: 'window', colour: colour.observed }, dashes('training')],
});

const itsEvidence = lines(
  {
    title: 'Evidence that $column moved',
    description:
      'The e-value of the test across windows, as a power of ten: how many times likelier the data are if the ' +
      'column moved by ' +
      'more than is worth naming. 3 is 1,000 to 1; looking often costs nothing.',
    decimals: 0,
    min: 0,
    unit: 'none',
    targets: [
      series(`select window_start as time, log(greatest(least(max(e_value), 1e30), 1e-6)) as "evidence"
              from grafana_monitor_windows where ${inputs} and ${theColumn} and e_value is not null group by 1 order
              by 1`),
    ],
    exceptions: [{ field: 'evidence', colour: colour.observed }],
    thresholds: steps('transparent', [3, colour.bad]),
  },
  { fillOpacity: 10, thresholdsStyle: { mode: GraphThresholdsStyleMode.Dashed } },
);

const quantiles = scatter({
  title: 'Distribution of $column, by split of the training set',
  description:
    'Cumulative: the share of rows (upwards) whose value lies below (rightwards), at nine quantiles from 1 % to ' +
    '99 %; of the newest ' +
    'training set with this column. The splits follow each other in time: a gap between the lines is movement.',
  targets: [
    rows(`select value as "value", max(level) filter (where split = 'train') as "train",
                 max(level) filter (where split = 'validation') as "validation", max(level) filter (where split =
                 'test') as "test"
          from grafana_feature_quantiles
          where project = \${project:sqlstring} and ${theColumn} and training_set_id = ${newestSet}
          group by 1 order by 1`),
  ],
  exceptions: [
    { field: 'value', unit: 'short' },
    { field: 'train', colour: colour.reference, unit: 'percentunit' },
    { field: 'validation', colour: colour.predicted, unit: 'percentunit' },
    { field: 'test', colour: colour.observed, unit: 'percentunit' },
  ],
});

const levels = lyingBars({
  title: 'Levels of $category, by split of the training set',
  description: 'Share of rows, of the ten commonest levels.',
  unit: 'percentunit',
  min: 0,
  targets: [
    rows(`select level as "level", coalesce(max(share) filter (where split = 'train'), 0) as "train",
                   coalesce(max(share) filter (where split = 'validation'), 0) as "validation",
                   coalesce(max(share) filter (where split = 'test'), 0) as "test"
            from grafana_feature_levels
            where project = \${project:sqlstring} and column_name = \${category:sqlstring}
              and training_set_id = ${newestSetOfCategory}
            group by 1 order by 2 desc, 1 limit 10`),
  ],
  exceptions: [
    { field: 'train', colour: colour.reference },
    { field: 'validation', colour: colour.predicted },
    { field: 'test', colour: colour.observed },
  ],
});

const scores = bars(
  {
    title: 'Distribution of the scores',
    description:
      'Share of predictions in each fifteenth of the probability: in the days shown, and in the evaluation of ' +
      'the same versions.',
    unit: 'percentunit',
    min: 0,
    targets: [
      rows(`with served as (
            select bin, sum(predictions)::double precision as n from grafana_score_bins
            where $__timeFilter(day) and project = \${project:sqlstring} and registered_model = \${model:sqlstring}
              and version::text in (\${version:sqlstring}) group by 1),
          judged as (
            select bin, sum(rows)::double precision as n from grafana_evaluation_bins
            where project = \${project:sqlstring} and registered_model = \${model:sqlstring}
              and version::text in (\${version:sqlstring}) group by 1)
          select lpad(round(bin * 100 / 15.0)::text, 2, '0') || '–' || round((bin + 1) * 100 / 15.0) || ' %' as
          "probability",
                 coalesce(judged.n / (select sum(n) from judged), 0) as "evaluation",
                 coalesce(served.n / (select sum(n) from served), 0) as "served"
          from served full join judged using (bin) order by bin`),
    ],
    exceptions: [
      { field: 'evaluation', colour: colour.reference },
      { field: 'served', colour: colour.observed },
    ],
  },
  { xTickLabelSpacing: 100 },
);

const scoreDistance = lines({
  title: 'Distance of the scores',
  description:
    'KS distance of the scores from those of the evaluation, over the trailing fortnight, with its interval.',
  min: 0,
  decimals: 2,
  targets: [
    series(`select window_start as time, effect as "distance", low as "at least", high as "at most"
            from grafana_monitor_windows
            where $__timeFilter(window_start) and ${ofMonitor} and kind = 'score' and measure = 'ks_distance_14_windows'
            order by 1`),
  ],
  exceptions: [{ field: 'distance', colour: colour.observed }, ...band('at least', 'at most', colour.observed)],
});

const statuses = lyingBars(
  {
    title: 'How values were found',
    description:
      'Share of the rows of the newest training set, by view: there, too old, or not there at all when the ' +
      'question was asked.',
    unit: 'percentunit',
    min: 0,
    max: 1,
    targets: [
      rows(`select view, coalesce(max(share) filter (where status = 'PRESENT'), 0) as "present",
                   coalesce(max(share) filter (where status = 'NULL'), 0) as "null",
                   coalesce(max(share) filter (where status = 'EXPIRED'), 0) as "expired",
                   coalesce(max(share) filter (where status = 'NOT_FOUND'), 0) as "not found",
                   coalesce(max(share) filter (where status = 'DELETED'), 0) as "deleted"
            from grafana_view_statuses
            where project = \${project:sqlstring} and training_set_id = (
              select training_set_id from grafana_view_statuses where project = \${project:sqlstring}
              order by created_at desc, training_set_id limit 1)
            group by 1 order by 2, 1`),
    ],
    exceptions: [
      { field: 'present', colour: colour.good },
      { field: 'null', colour: colour.quiet },
      { field: 'expired', colour: colour.doubtful },
      { field: 'not found', colour: colour.reference },
      { field: 'deleted', colour: colour.broken },
    ],
  },
  { stacking: StackingMode.Normal },
);

export default board({
  uid: 'foretime-drift',
  title: 'drift and distributions',
  description: 'Which inputs moved, when and by how much; how a column and the scores are distributed.',
  variables: [project, model, version, monitor, column, category],
  tells: [incidents, deployments],
  from: 'now-60d',
  links: [demoDays('foretime-drift')],
  rows: [
    {
      height: 3,
      panels: [
        [6, watched],
        [6, driftedNow],
        [6, brokenNow],
        [6, judged],
      ],
    },
    { height: 18, panels: [[24, theMatrix]] },
    {
      height: 9,
      panels: [
        [14, verdicts('Verdicts by window', [])],
        [10, ranking],
      ],
    },
    {
      title: 'One column',
      height: 8,
      panels: [
        [9, itsDistance],
        [8, itsMissing],
        [7, itsEvidence],
      ],
    },
    {
      title: 'How values are distributed',
      height: 9,
      panels: [
        [12, quantiles],
        [12, levels],
      ],
    },
    {
      title: 'Scores, and how values were found',
      height: 10,
      panels: [
        [9, scores],
        [7, scoreDistance],
        [8, statuses],
      ],
    },
  ],
});
