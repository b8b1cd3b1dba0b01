// Whether probabilities mean what they say, and whether they still tell late from early.

import {
  band,
  bars,
  board,
  colour,
  dashes,
  demoDays,
  deployments,
  incidents,
  lines,
  model,
  monitor,
  painted,
  project,
  rows,
  scatter,
  series,
  stat,
  steps,
  table,
  version,
  words,
} from './house.js';
import { aucNow, calibrationNow, reliability, reliabilityLook } from './shared.js';

const ofModel = 'project = ${project:sqlstring} and registered_model = ${model:sqlstring}';
const ofVersions = `${ofModel} and version::text in (\${version:sqlstring})`;
const ofMonitor = `${ofVersions} and monitor = \${monitor:sqlstring}`;
const windows = `$__timeFilter(window_start) and ${ofMonitor}`;

const gapNow = stat({
  title: 'Said less came true',
  description:
    'Mean probability less the share that came true, of the latest judged fortnight: above 0 the model says too much.',
  unit: 'percentunit',
  decimals: 1,
  targets: [
    rows(`select effect as gap from grafana_monitor_windows
          where ${windows} and measure = 'probability_less_rate_14_windows' order by window_start desc limit 1`),
  ],
  thresholds: steps(
    colour.bad,
    [-0.08, colour.doubtful],
    [-0.04, colour.good],
    [0.04, colour.doubtful],
    [0.08, colour.bad],
  ),
});

const brierNow = stat({
  title: 'Brier score',
  description:
    'Mean square of probability less outcome, over the predictions shown whose outcome is known. Smaller is better.',
  decimals: 3,
  targets: [
    rows(`select sum(brier * matured) / sum(matured) as brier from grafana_daily_predictions
          where $__timeFilter(day) and ${ofVersions} and matured > 0`),
  ],
  thresholds: steps(colour.good, [0.2, colour.doubtful], [0.25, colour.bad]),
});

const matured = stat({
  title: 'Outcomes known',
  description: 'Share of the predictions shown whose outcome is known. Only these are judged.',
  unit: 'percentunit',
  decimals: 1,
  targets: [
    rows(`select sum(matured)::double precision / sum(predictions) as share from grafana_daily_predictions
          where $__timeFilter(day) and ${ofVersions}`),
  ],
  thresholds: steps(colour.bad, [0.5, colour.doubtful], [0.9, colour.good]),
});

const brought = scatter({
  title: 'Reliability when it was judged',
  description:
    'The evaluation of the newest of the chosen versions, on data later than its training: mean probability ' +
    'against the share that ' +
    "came true, with Wilson's 95 % interval. What serving is compared with.",
  unit: 'percentunit',
  min: 0,
  max: 1,
  targets: [
    rows(`select predicted, predicted as "calibrated", observed as "came true", observed_low as "at least",
      observed_high as "at most"
          from grafana_evaluation_bins
          where ${ofVersions} and rows >= 10 and version = (
            select max(version) from grafana_evaluation_bins where ${ofVersions})
          order by 1`),
  ],
  exceptions: reliabilityLook(colour.predicted),
});

const bins = bars(
  {
    title: 'Rows behind the diagrams',
    description:
      'Share of judged predictions in each fifteenth of the probability, served and evaluated. Thin bins have ' +
      'wide intervals.',
    unit: 'percentunit',
    min: 0,
    targets: [
      rows(`with served as (
            select bin, sum(matured)::double precision as n from grafana_score_bins where $__timeFilter(day) and
            ${ofVersions} group by 1),
          judged as (
            select bin, sum(rows)::double precision as n from grafana_evaluation_bins where ${ofVersions} group by 1)
          select round(bin * 100 / 15.0) || '–' || round((bin + 1) * 100 / 15.0) || ' %' as "probability",
                 coalesce(judged.n / (select sum(n) from judged), 0) as "evaluation",
                 coalesce(served.n / nullif((select sum(n) from served), 0), 0) as "served"
          from served full join judged using (bin) order by bin`),
    ],
    exceptions: [
      { field: 'evaluation', colour: colour.predicted },
      { field: 'served', colour: colour.observed },
    ],
  },
  { xTickLabelSpacing: 100 },
);

const ece = lines({
  title: 'Calibration error, and what chance makes of it',
  description:
    'Expected calibration error (15 bins) of the trailing fortnight. The grey band is where a perfectly ' +
    'calibrated model lies, ' +
    '19 times in 20, over as many rows: only what is above it says something.',
  min: 0,
  decimals: 3,
  targets: [
    series(`select window_start as time, max(effect) as "ECE", 0.0 as "from", max(reference_value) as "chance, 95 %"
            from grafana_monitor_windows where ${windows} and measure = 'ece_15_bins_14_windows' group by 1 order by
            1`),
  ],
  exceptions: [
    { field: 'ECE', colour: colour.observed },
    {
      field: 'from',
      colour: colour.reference,
      custom: { lineWidth: 0, hideFrom: { legend: true, tooltip: true, viz: false } },
    },
    { field: 'chance, 95 %', colour: colour.reference, custom: { lineWidth: 1, fillBelowTo: 'from', fillOpacity: 18 } },
  ],
});

const gap = lines({
  title: 'Said less came true',
  description:
    'Mean probability less the share that came true, over the trailing fortnight, with its interval. 0 is right ' +
    'on average.',
  unit: 'percentunit',
  targets: [
    series(`select window_start as time, max(effect) as "difference", max(low) as "at least", max(high) as "at most",
      0.0 as "none"
            from grafana_monitor_windows where ${windows} and measure = 'probability_less_rate_14_windows' group by 1
            order by 1`),
  ],
  exceptions: [
    { field: 'difference', colour: colour.observed },
    ...band('at least', 'at most', colour.observed),
    dashes('none'),
  ],
});

const auc = lines({
  title: 'AUC by window, against the evaluation',
  description:
    'Of the trailing fortnight, with its interval; the dashed line is the evaluation that the version passed its ' +
    'gate with.',
  decimals: 3,
  targets: [
    series(`select window_start as time, max(current_value) as "AUC", max(reference_value + low) as "at least",
                   max(reference_value + high) as "at most", max(reference_value) as "evaluation"
            from grafana_monitor_windows where ${windows} and measure = 'auc_14_windows' group by 1 order by 1`),
  ],
  exceptions: [
    { field: 'AUC', colour: colour.observed },
    ...band('at least', 'at most', colour.observed),
    dashes('evaluation', colour.predicted),
  ],
});

const brier = lines({
  title: 'Brier score by day',
  description:
    'Of the predictions of a day whose outcome is known; beside it that of always saying the rate of the day, ' +
    'which knows more.',
  min: 0,
  decimals: 3,
  targets: [
    series(`select day as time, sum(brier * matured) / sum(matured) as "served",
                   avg(label_rate * (1 - label_rate)) as "the day's rate"
            from grafana_daily_predictions where $__timeFilter(day) and ${ofVersions} and matured >= 20 group by 1
            order by 1`),
  ],
  exceptions: [{ field: 'served', colour: colour.observed }, dashes("the day's rate")],
});

const rate = lines({
  title: 'Rate of outcomes',
  description: 'Share that came true over the trailing fortnight; the dashed line is the rate in training.',
  unit: 'percentunit',
  min: 0,
  targets: [
    series(`select window_start as time, max(current_value) as "came true", max(reference_value + low) as "at least",
                   max(reference_value + high) as "at most", max(reference_value) as "training"
            from grafana_monitor_windows where ${windows} and measure = 'rate_change_14_windows' group by 1 order by
            1`),
  ],
  exceptions: [
    { field: 'came true', colour: colour.observed },
    ...band('at least', 'at most', colour.observed),
    dashes('training'),
  ],
});

const against = table({
  title: 'Reference and what serves',
  description:
    'The months of the evaluation, and the served months, of the chosen versions. Calibration error exceeds ' +
    'chance where its number is red.',
  decimals: 3,
  targets: [
    rows(`select to_char(month at time zone 'UTC', 'YYYY-MM') as "month", version, 'evaluation' as "of", rows,
                 auc as "AUC", auc_low as "AUC from", auc_high as "AUC to", ece as "ECE", ece - ece_null_high as "ECE
                 over chance",
                 null::double precision as "Brier"
          from grafana_evaluation_months where ${ofVersions}
          union all
          select to_char(month at time zone 'UTC', 'YYYY-MM'), version, 'served', sum(predictions)::bigint, null,
          null, null,
                 sum(abs(mean_probability - label_rate) * predictions) / sum(predictions), null,
                 (select sum(d.brier * d.matured) / sum(d.matured) from grafana_daily_predictions d
                  where d.registered_model = r.registered_model and d.version = r.version and d.matured > 0
                    and date_trunc('month', d.day, 'UTC') = r.month)
          from grafana_reliability r where ${ofVersions} group by registered_model, month, version
          order by 1, 2, 3`),
  ],
  exceptions: [
    { field: 'version', width: 75, decimals: 0 },
    { field: 'rows', width: 85, decimals: 0 },
    { field: 'of', mappings: words({ served: colour.observed, evaluation: colour.predicted }), custom: painted.text },
    {
      field: 'ECE over chance',
      thresholds: steps(colour.good, [0, colour.doubtful], [0.02, colour.bad]),
      custom: painted.text,
    },
  ],
});

export default board({
  uid: 'foretime-calibration',
  title: 'calibration and performance',
  description: 'Whether probabilities mean what they say, and whether they still tell one outcome from the other.',
  variables: [project, model, version, monitor],
  tells: [incidents, deployments],
  from: 'now-60d',
  links: [demoDays('foretime-calibration')],
  rows: [
    {
      height: 3,
      panels: [
        [5, calibrationNow],
        [5, gapNow],
        [5, aucNow],
        [5, brierNow],
        [4, matured],
      ],
    },
    {
      title: 'Reliability',
      height: 11,
      panels: [
        [8, brought],
        [8, reliability('Reliability while it serves')],
        [8, bins],
      ],
    },
    {
      title: 'Calibration over time',
      height: 9,
      panels: [
        [12, ece],
        [12, gap],
      ],
    },
    {
      title: 'Performance over time',
      height: 9,
      panels: [
        [9, auc],
        [8, brier],
        [7, rate],
      ],
    },
    { title: 'Reference against served', height: 8, panels: [[24, against]] },
  ],
});
