// Panels that stand on more than one board.

import {
  barsOverTime,
  colour,
  rows,
  scatter,
  series,
  stat,
  steps,
  to,
  XYShowMode,
  type Exception,
  type Link,
} from './house.js';
import type { GraphFieldConfig, Panel } from '@grafana/schema';

const ofModel = 'project = ${project:sqlstring} and registered_model = ${model:sqlstring}';
const chosen = { project: '${project}', model: '${model}' };

const verdictColours: Exception<GraphFieldConfig>[] = [
  { field: 'ok', colour: colour.good, custom: { fillOpacity: 35 } },
  { field: 'too few rows', colour: colour.reference },
  { field: 'drift', colour: colour.bad },
  { field: 'broken', colour: colour.broken },
];

/** How many columns were judged how, each by the worst that was said of it. */
export function verdicts(title: string, links: Link[]): Panel {
  return barsOverTime({
    title,
    description:
      'Input columns, one bar a window, each by the worst that was said of it: broken data, drift, or too few ' +
      'rows to tell.',
    targets: [
      series(`with worst as (
                select window_start, column_name, bool_or(verdict = 'broken') as broken, bool_or(verdict = 'drift')
                as drift,
                       bool_or(verdict = 'insufficient data') as unknown
                from grafana_monitor_windows
                where $__timeFilter(window_start) and ${ofModel} and monitor = \${monitor:sqlstring} and kind = 'input'
                  and measure in ('ks_distance', 'total_variation', 'missing_share_change')
                group by 1, 2)
              select window_start as time, count(*) filter (where not broken and not drift and not unknown) as "ok",
                     count(*) filter (where not broken and not drift and unknown) as "too few rows",
                     count(*) filter (where drift and not broken) as "drift", count(*) filter (where broken) as "broken"
              from worst group by 1 order by 1`),
    ],
    exceptions: verdictColours,
    links,
  });
}

/** The calibration error of the latest judged fortnight, over what chance makes of a calibrated model. */
export const calibrationNow: Panel = stat({
  title: 'ECE over chance',
  description:
    'Of the latest judged fortnight: the expected calibration error (15 bins) less the 95 % point that a ' +
    'perfectly calibrated ' +
    'model would show over as many rows. Below 0 nothing is wrong.',
  decimals: 3,
  targets: [
    rows(`select effect - reference_value as "above chance" from grafana_monitor_windows
          where $__timeFilter(window_start) and ${ofModel} and measure = 'ece_15_bins_14_windows'
          order by window_start desc limit 1`),
  ],
  thresholds: steps(colour.good, [0.005, colour.doubtful], [0.03, colour.bad]),
  links: [to('foretime-calibration', 'Calibration', chosen)],
});

export const aucNow: Panel = stat({
  title: 'AUC, latest fortnight',
  description: 'Over the latest fortnight whose outcomes are known. 0.5 is chance.',
  decimals: 3,
  targets: [
    rows(`select current_value as "AUC" from grafana_monitor_windows
          where $__timeFilter(window_start) and ${ofModel} and measure = 'auc_14_windows' order by window_start desc
          limit 1`),
  ],
  thresholds: steps(colour.bad, [0.6, colour.doubtful], [0.65, colour.good]),
  links: [to('foretime-calibration', 'Performance', chosen)],
});

/** What came true, by what was said, with Wilson's 95 % interval; of predictions in the time that is shown. */
export function reliability(title: string): Panel {
  const z2 = '3.841459';
  return scatter({
    title,
    description:
      'Predictions of the days shown whose outcome is known, by fifteenths of the probability: mean probability ' +
      'against the ' +
      "share that came true, with Wilson's 95 % interval. Bins of fewer than 10 rows are left out. Calibrated is " +
      'on the diagonal.',
    unit: 'percentunit',
    min: 0,
    max: 1,
    targets: [
      rows(`with bins as (
                select bin, sum(matured_sum_probability) / sum(matured) as said, sum(came_true)::double precision /
                sum(matured) as rate,
                       sum(matured)::double precision as n
                from grafana_score_bins
                where $__timeFilter(day) and ${ofModel} and version::text in (\${version:sqlstring}) and matured > 0
                group by bin having sum(matured) >= 10)
              select said as "predicted", said as "calibrated", rate as "came true",
                     (rate + ${z2} / (2 * n) - sqrt(${z2} * (rate * (1 - rate) + ${z2} / (4 * n)) / n)) / (1 + ${z2}
                     / n) as "at least",
                     (rate + ${z2} / (2 * n) + sqrt(${z2} * (rate * (1 - rate) + ${z2} / (4 * n)) / n)) / (1 + ${z2}
                     / n) as "at most"
              from bins order by 1`),
    ],
    exceptions: reliabilityLook(colour.observed),
  });
}

export function reliabilityLook(shade: string) {
  const thin = { show: XYShowMode.Lines, lineWidth: 1, lineStyle: { fill: 'dash' as const, dash: [4, 4] } };
  return [
    { field: 'calibrated', colour: colour.reference, custom: { show: XYShowMode.Lines, lineWidth: 1 } },
    { field: 'came true', colour: shade },
    { field: 'at least', colour: shade, custom: thin },
    { field: 'at most', colour: shade, custom: thin },
  ];
}
