// How the platform answers, and how fresh what it answers from is. Metrics live by the machine's clock.

import {
  barsOverTime,
  board,
  colour,
  LegendDisplayMode,
  lines,
  lyingBars,
  metric,
  metricNow,
  painted,
  project,
  rows,
  stat,
  steps,
  table,
} from './house.js';

const ofProject = 'project = ${project:sqlstring}';
const requests = 'foretime_http_request_duration_seconds';
const reads = 'route=~"/v1/datasets/.*/online|/v1/features/online|/get-online-features"';
const quantileLook = [
  { field: /^50 %/, colour: colour.predicted },
  { field: /^90 %/, colour: colour.doubtful },
  { field: /^99 %/, colour: colour.observed },
];

/** Three quantiles of a histogram, as three queries. */
function quantiles(histogram: string, by: string, legend: string) {
  return ['0.5', '0.9', '0.99'].map((share, index) =>
    metric(
      `histogram_quantile(${share}, sum by (le${by}) (rate(${histogram}[$__rate_interval])))`,
      `${Number(share) * 100} %${legend}`,
      'ABC'[index],
    ),
  );
}

const up = stat({
  title: 'Processes up',
  description: 'Foretime processes that answer Prometheus.',
  targets: [metricNow('sum(up{job="foretime"})', 'up')],
  thresholds: steps(colour.bad, [1, colour.good]),
});

const rate = stat({
  title: 'Predictions a second',
  description: 'Rows answered, over all models.',
  unit: 'reqps',
  decimals: 1,
  targets: [metricNow('sum(rate(foretime_predictions_total[$__rate_interval]))', 'predictions')],
});

const slowest = stat({
  title: 'Prediction, 99 %',
  description: 'What the slowest of a hundred requests for predictions takes.',
  unit: 's',
  decimals: 1,
  targets: [
    metricNow(
      'histogram_quantile(0.99, sum by (le) (rate(foretime_predict_duration_seconds_bucket[$__rate_interval])))',
      '99 %',
    ),
  ],
  thresholds: steps(colour.good, [0.1, colour.doubtful], [0.25, colour.bad]),
});

const faults = stat({
  title: 'Our faults',
  description: 'Share of answers that were 5xx.',
  unit: 'percentunit',
  decimals: 2,
  targets: [
    metricNow(
      `1 - sum(rate(${requests}_count{status!~"5.."}[$__rate_interval])) /
        sum(rate(${requests}_count[$__rate_interval]))`,
      '5xx',
    ),
  ],
  thresholds: steps(colour.good, [0.001, colour.doubtful], [0.02, colour.bad]),
});

const unequal = stat({
  title: 'Parity broken',
  description:
    'Values of the last hour that the offline store has otherwise, among those that were recomputed. 0, or ' +
    'features lie.',
  targets: [metricNow('sum(increase(foretime_parity_values_total{how!="equal"}[1h])) or vector(0)', 'values')],
  thresholds: steps(colour.good, [1, colour.bad]),
});

const rejected = stat({
  title: 'Rows refused',
  description: 'Share of the rows sent in the last hour that were refused. Each is kept with its reason.',
  unit: 'percentunit',
  decimals: 2,
  targets: [
    metricNow(
      `(sum(rate(foretime_ingest_rows_total{how=~"rejected.*|invalid"}[1h])) or vector(0)) /
        sum(rate(foretime_ingest_rows_total[1h]))`,
      'refused',
    ),
  ],
  thresholds: steps(colour.good, [0.01, colour.doubtful], [0.05, colour.bad]),
});

const predicting = lines({
  title: 'Answering a prediction',
  description:
    'Time to answer a request for predictions, features included: half, nine of ten, and 99 of 100 are faster.',
  unit: 's',
  min: 0,
  targets: quantiles('foretime_predict_duration_seconds_bucket', '', ''),
  exceptions: quantileLook,
});

const reading = lines({
  title: 'Reading features online',
  description: 'Time to answer a request for features of this moment.',
  unit: 's',
  min: 0,
  targets: quantiles(`${requests}_bucket{${reads}}`, '', ''),
  exceptions: quantileLook,
});

const routes = lines({
  title: 'Slowest routes, 95 %',
  description: 'What the slowest of twenty requests takes, of the six slowest routes.',
  unit: 's',
  min: 0,
  targets: [
    metric(
      `topk(6, histogram_quantile(0.95, sum by (le, route)
        (rate(${requests}_bucket{route!="/metrics"}[$__rate_interval]))) > 0)`,
      '{{route}}',
    ),
  ],
});

const predictions = lines(
  {
    title: 'Predictions',
    description:
      'Rows answered a second, by model and version: a swap of the champion is one line taking over from another.',
    unit: 'reqps',
    min: 0,
    targets: [
      metric('sum by (model, version) (rate(foretime_predictions_total[$__rate_interval]))', '{{model}} v{{version}}'),
    ],
  },
  { fillOpacity: 15 },
);

const traffic = barsOverTime({
  title: 'Requests by status',
  description: 'Requests a second, scrapes of Prometheus apart.',
  unit: 'reqps',
  min: 0,
  targets: [metric(`sum by (status) (rate(${requests}_count{route!="/metrics"}[$__rate_interval]))`, '{{status}}')],
  exceptions: [
    { field: /^2/, colour: colour.good },
    { field: /^4/, colour: colour.doubtful },
    { field: /^5/, colour: colour.bad },
  ],
});

const ingest = lines(
  {
    title: 'Rows sent',
    description: 'Rows a second, by source and what became of them.',
    unit: 'rowsps',
    min: 0,
    targets: [
      metric('sum by (source, how) (rate(foretime_ingest_rows_total[$__rate_interval])) > 0', '{{source}} {{how}}'),
    ],
  },
  { fillOpacity: 15 },
);

const freshness = table({
  title: 'Freshness of the offline store',
  description:
    'What each view holds, how new that is, and how far its latest knowledge lies behind the latest of all views.',
  targets: [
    rows(`select view || ' v' || view_version as "view", rows, size_bytes as "size", parts as "files",
      to_char(newest_event_time at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as "newest event",
                 to_char(newest_known_time at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as "newest known",
                 extract(epoch from max(newest_known_time) over () - newest_known_time)::double precision as "behind"
          from grafana_freshness where ${ofProject} order by "behind" desc, 1`),
  ],
  exceptions: [
    { field: 'rows', unit: 'locale', width: 80 },
    { field: 'size', unit: 'bytes', decimals: 1, width: 95 },
    { field: 'files', width: 65 },
    { field: /^newest/, width: 140 },
    { field: 'behind', unit: 's', decimals: 1, width: 95 },
  ],
});

const online = lyingBars(
  {
    title: 'What is kept online',
    description:
      'Rows of each view version that serves, as the database estimates them. Windows keep the events of their ' +
      'longest span.',
    unit: 'short',
    min: 0,
    targets: [
      rows(`select view || ' v' || view_version as "view", rows from grafana_online where ${ofProject} and rows > 0
            order by rows desc, 1 limit 16`),
    ],
    exceptions: [{ field: 'rows', colour: colour.predicted }],
  },
  { legend: { showLegend: false, displayMode: LegendDisplayMode.List, placement: 'bottom', calcs: [] } },
);

const parity = lines({
  title: 'Parity: served values against the offline store',
  description: 'Values recomputed in the last five minutes, by what was found. Only `equal` should be above 0.',
  unit: 'short',
  min: 0,
  targets: [
    metric('sum(increase(foretime_parity_values_total{how="equal"}[5m])) or vector(0)', 'equal', 'A'),
    metric('sum(increase(foretime_parity_values_total{how!="equal"}[5m])) or vector(0)', 'otherwise', 'B'),
  ],
  exceptions: [
    { field: 'equal', colour: colour.good },
    { field: 'otherwise', colour: colour.bad },
  ],
});

const notServed = lines({
  title: 'Rows that are not served',
  description:
    'Rows sent that online readers do not see, in the last five minutes: older than what is served, or of an ' +
    'erased entity.',
  unit: 'short',
  min: 0,
  targets: [metric('sum by (why) (increase(foretime_ingest_rows_not_served_total[5m]))', '{{why}}')],
});

const batches = table({
  title: 'Batches',
  description:
    'The latest that came with a key that makes a repeat harmless, and what became of their rows. Stale rows are ' +
    'older than what is served.',
  targets: [
    rows(`select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as "sent", source, accepted, stale,
      invalid from grafana_ingest_batches
          where ${ofProject} order by seq desc limit 100`),
  ],
  exceptions: [
    { field: 'sent', width: 135 },
    { field: 'accepted', unit: 'locale', width: 85 },
    { field: 'stale', width: 60 },
    { field: 'invalid', width: 70, thresholds: steps(colour.good, [1, colour.bad]), custom: painted.text },
  ],
});

export default board({
  uid: 'foretime-serving',
  title: 'serving and feature store',
  description: 'How the platform answers, and how fresh, complete and equal is what it answers from.',
  variables: [project],
  tells: [],
  from: 'now-1h',
  rows: [
    {
      height: 3,
      panels: [
        [4, up],
        [4, rate],
        [4, slowest],
        [4, faults],
        [4, unequal],
        [4, rejected],
      ],
    },
    {
      title: 'How fast?',
      height: 8,
      panels: [
        [8, predicting],
        [8, reading],
        [8, routes],
      ],
    },
    {
      title: 'How much?',
      height: 8,
      panels: [
        [8, predictions],
        [8, traffic],
        [8, ingest],
      ],
    },
    {
      title: 'How fresh?',
      height: 10,
      panels: [
        [15, freshness],
        [9, online],
      ],
    },
    {
      title: 'Is what is served what is stored?',
      height: 8,
      panels: [
        [8, parity],
        [7, notServed],
        [9, batches],
      ],
    },
  ],
});
