// What the boards are made of: panels with their sizes, queries, colours and links. Every option is typed by Grafana's
// own schema.
//
// Belongs here: how a thing looks on every board. Not here: what a board asks, which is the board's own file.

import {
  AxisColorMode,
  AxisPlacement,
  BarAlignment,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueJustifyMode,
  BigValueTextMode,
  DashboardCursorSync,
  FieldColorModeId,
  GraphDrawStyle,
  GraphGradientMode,
  GraphThresholdsStyleMode,
  LegendDisplayMode,
  LineInterpolation,
  MappingType,
  PercentChangeColorMode,
  ScaleDistribution,
  SortOrder,
  StackingMode,
  TableCellDisplayMode,
  TableCellHeight,
  ThresholdsMode,
  TooltipDisplayMode,
  VariableHide,
  VariableRefresh,
  VisibilityMode,
  VizOrientation,
  type AnnotationQuery,
  type Dashboard,
  type DashboardLink,
  type DataSourceRef,
  type FieldConfig,
  type FieldConfigSource,
  type GraphFieldConfig,
  type Panel,
  type RowPanel,
  type TableFieldOptions,
  type Threshold,
  type ValueMapping,
  type VariableModel,
} from '@grafana/schema';
import type {
  FieldConfig as BarFieldConfig,
  Options as BarOptions,
} from '@grafana/schema/dist/esm/raw/composable/barchart/panelcfg/x/BarChartPanelCfg_types.gen';
import type { Options as StatOptions } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type {
  FieldConfig as HistoryFieldConfig,
  Options as HistoryOptions,
} from '@grafana/schema/dist/esm/raw/composable/statushistory/panelcfg/x/StatusHistoryPanelCfg_types.gen';
import type { Options as TableOptions } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type { Options as TimeOptions } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import type { Options as TrendOptions } from '@grafana/schema/dist/esm/raw/composable/trend/panelcfg/x/TrendPanelCfg_types.gen';
import {
  SeriesMapping,
  XYShowMode,
  type FieldConfig as XYFieldConfig,
  type Options as XYOptions,
} from '@grafana/schema/dist/esm/raw/composable/xychart/panelcfg/x/XYChartPanelCfg_types.gen';

export {
  AxisPlacement,
  GraphThresholdsStyleMode,
  LegendDisplayMode,
  StackingMode,
  VisibilityMode,
  VizOrientation,
  XYShowMode,
};

// --- colours: one meaning each, on every board ---

export const colour = {
  predicted: 'blue',
  observed: 'orange',
  reference: '#8e8e9c',
  good: 'green',
  doubtful: 'yellow',
  bad: 'red',
  broken: 'purple',
  quiet: 'blue',
} as const;

// --- where panels read ---

const postgres: DataSourceRef = { type: 'grafana-postgresql-datasource', uid: 'foretime-postgres' };
const prometheus: DataSourceRef = { type: 'prometheus', uid: 'foretime-prometheus' };

export interface Query {
  datasource: DataSourceRef;
  refId: string;
  [option: string]: unknown;
}

/** Rows as they are. */
export function rows(rawSql: string, refId = 'A'): Query {
  return { datasource: postgres, refId, editorMode: 'code', rawQuery: true, format: 'table', rawSql: tidy(rawSql) };
}

/** Series over `time`; a text column named `metric` splits them. */
export function series(rawSql: string, refId = 'A'): Query {
  return { ...rows(rawSql, refId), format: 'time_series' };
}

export function metric(expr: string, legendFormat: string, refId = 'A'): Query {
  return {
    datasource: prometheus,
    refId,
    editorMode: 'code',
    expr: tidy(expr),
    legendFormat,
    instant: false,
    range: true,
  };
}

/** A metric as it stands at the end of the time range. */
export function metricNow(expr: string, legendFormat: string, refId = 'A'): Query {
  return { ...metric(expr, legendFormat, refId), instant: true, range: false };
}

function tidy(query: string): string {
  return query.replace(/\s+/g, ' ').trim();
}

// --- panels ---

type Custom = GraphFieldConfig | BarFieldConfig | XYFieldConfig | TableFieldOptions | HistoryFieldConfig;

/** How fields with a name, or names that fit a pattern, differ from the panel's other fields. */
export interface Exception<C> {
  field: string | RegExp;
  colour?: string;
  unit?: string;
  decimals?: number;
  width?: number;
  name?: string;
  links?: Link[];
  mappings?: ValueMapping[];
  thresholds?: Threshold[];
  custom?: Partial<C>;
}

export interface Link {
  title: string;
  url: string;
}

interface About<C> {
  title: string;
  description: string;
  targets: Query[];
  unit?: string;
  decimals?: number;
  min?: number;
  max?: number;
  thresholds?: Threshold[];
  mappings?: ValueMapping[];
  exceptions?: Exception<C>[];
  links?: Link[];
  noValue?: string;
}

/** From the lowest up: the first colour holds below the first bound. */
export function steps(first: string, ...bounds: [number, string][]): Threshold[] {
  // The schema's first step is minus infinity, which JSON cannot write: Grafana writes null for it.
  const lowest = { color: first, value: null as unknown as number };
  return [lowest, ...bounds.map(([value, color]) => ({ value, color }))];
}

/** Texts that are shown in a colour. */
export function words(meaning: Record<string, string>): ValueMapping[] {
  const options = Object.entries(meaning).map(([word, color], index) => [word, { color, index, text: word }]);
  return [{ type: MappingType.ValueToText, options: Object.fromEntries(options) }];
}

function panel<O, C extends Custom>(
  type: string,
  about: About<C>,
  options: O,
  custom: Partial<C>,
  byThreshold: boolean,
) {
  const mode = byThreshold ? FieldColorModeId.Thresholds : FieldColorModeId.PaletteClassic;
  const defaults: FieldConfig<Partial<C>> = {
    color: { mode },
    custom,
    thresholds: { mode: ThresholdsMode.Absolute, steps: about.thresholds ?? steps(colour.quiet) },
    mappings: about.mappings ?? [],
    ...defined({ unit: about.unit, decimals: about.decimals, min: about.min, max: about.max, noValue: about.noValue }),
    ...(about.links ? { links: about.links } : {}),
  };
  const fieldConfig: FieldConfigSource<Partial<C>> = { defaults, overrides: (about.exceptions ?? []).map(override) };
  const made: Panel<Record<string, unknown>, Partial<C>> = {
    type,
    title: about.title,
    description: about.description,
    datasource: about.targets[0]!.datasource,
    targets: about.targets,
    fieldConfig,
    options: options as Record<string, unknown>,
  };
  return made as Panel;
}

function defined<T extends object>(entries: T): Partial<T> {
  return Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined)) as Partial<T>;
}

function override<C>(exception: Exception<C>) {
  const { field } = exception;
  const matcher =
    typeof field === 'string' ? { id: 'byName', options: field } : { id: 'byRegexp', options: field.toString() };
  const wanted: [string, unknown][] = [
    ['color', exception.colour && { mode: FieldColorModeId.Fixed, fixedColor: exception.colour }],
    ['unit', exception.unit],
    ['decimals', exception.decimals],
    ['displayName', exception.name],
    ['custom.width', exception.width],
    ['links', exception.links],
    ['mappings', exception.mappings],
    ['thresholds', exception.thresholds && { mode: ThresholdsMode.Absolute, steps: exception.thresholds }],
    ...Object.entries(exception.custom ?? {}).map(([key, value]): [string, unknown] => [`custom.${key}`, value]),
  ];
  const properties = wanted.filter(([, value]) => value !== undefined).map(([id, value]) => ({ id, value }));
  return { matcher, properties };
}

const legend = { displayMode: LegendDisplayMode.List, placement: 'bottom' as const, showLegend: true, calcs: [] };
const tooltip = { mode: TooltipDisplayMode.Multi, sort: SortOrder.Descending };

const line: Partial<GraphFieldConfig> = {
  drawStyle: GraphDrawStyle.Line,
  lineInterpolation: LineInterpolation.Linear,
  lineWidth: 2,
  fillOpacity: 0,
  gradientMode: GraphGradientMode.None,
  pointSize: 4,
  showPoints: VisibilityMode.Never,
  spanNulls: true,
  barAlignment: BarAlignment.Center,
  axisPlacement: AxisPlacement.Auto,
  axisColorMode: AxisColorMode.Text,
  axisLabel: '',
  scaleDistribution: { type: ScaleDistribution.Linear },
  stacking: { group: 'A', mode: StackingMode.None },
};

/** One big number, coloured by its thresholds. */
export function stat(about: About<GraphFieldConfig>, look: Partial<StatOptions> = {}): Panel {
  const options: StatOptions = {
    colorMode: BigValueColorMode.Value,
    graphMode: BigValueGraphMode.None,
    justifyMode: BigValueJustifyMode.Center,
    orientation: VizOrientation.Auto,
    percentChangeColorMode: PercentChangeColorMode.Standard,
    showPercentChange: false,
    textMode: BigValueTextMode.Value,
    wideLayout: true,
    reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    ...look,
  };
  return panel('stat', about, options, {}, true);
}

export function lines(about: About<GraphFieldConfig>, custom: Partial<GraphFieldConfig> = {}): Panel {
  const options: TimeOptions = { legend, tooltip };
  return panel('timeseries', about, options, { ...line, ...custom }, false);
}

/** Stacked bars over time. */
export function barsOverTime(about: About<GraphFieldConfig>, custom: Partial<GraphFieldConfig> = {}): Panel {
  const stacking = { group: 'A', mode: StackingMode.Normal };
  return lines(
    { min: 0, ...about },
    { drawStyle: GraphDrawStyle.Bars, fillOpacity: 80, lineWidth: 0, stacking, ...custom },
  );
}

/** Lines over a number, such as a step. */
export function trend(about: About<GraphFieldConfig>, xField: string, custom: Partial<GraphFieldConfig> = {}): Panel {
  const options: TrendOptions = { legend, tooltip, xField };
  return panel('trend', about, options, { ...line, ...custom }, false);
}

/** Points and lines over a number; every number column but the first is a series. */
export function scatter(about: About<XYFieldConfig>, custom: Partial<XYFieldConfig> = {}): Panel {
  const options: XYOptions = {
    mapping: SeriesMapping.Auto,
    series: [],
    legend,
    tooltip: { ...tooltip, mode: TooltipDisplayMode.Single },
  };
  const drawn: Partial<XYFieldConfig> = {
    show: XYShowMode.PointsAndLines,
    pointSize: { fixed: 6 },
    lineWidth: 2,
    fillOpacity: 60,
    axisPlacement: AxisPlacement.Auto,
    scaleDistribution: { type: ScaleDistribution.Linear },
    ...custom,
  };
  return panel('xychart', about, options, drawn, false);
}

export function bars(about: About<BarFieldConfig>, look: Partial<BarOptions> = {}): Panel {
  const options: BarOptions = {
    orientation: VizOrientation.Vertical,
    showValue: VisibilityMode.Never,
    stacking: StackingMode.None,
    barWidth: 0.9,
    groupWidth: 0.75,
    barRadius: 0,
    fullHighlight: false,
    xTickLabelRotation: 0,
    xTickLabelMaxLength: 0,
    xTickLabelSpacing: 0,
    legend,
    tooltip,
    ...look,
  };
  const custom: Partial<BarFieldConfig> = { fillOpacity: 80, lineWidth: 0, gradientMode: GraphGradientMode.None };
  return panel('barchart', about, options, custom, false);
}

/** Bars that lie, for long names. */
export function lyingBars(about: About<BarFieldConfig>, look: Partial<BarOptions> = {}): Panel {
  return bars(about, { orientation: VizOrientation.Horizontal, ...look });
}

export function table(about: About<TableFieldOptions>, look: Partial<TableOptions> = {}): Panel {
  const options: TableOptions = { frameIndex: 0, showHeader: true, cellHeight: TableCellHeight.Sm, ...look };
  const custom: Partial<TableFieldOptions> = { cellOptions: { type: TableCellDisplayMode.Auto } };
  return panel('table', about, options, custom, true);
}

/** Cells whose text or ground takes the colour of the value. */
export const painted = {
  text: { cellOptions: { type: TableCellDisplayMode.ColorText } } as Partial<TableFieldOptions>,
};

/** One cell a row and moment. */
export function matrix(about: About<HistoryFieldConfig>): Panel {
  const options: HistoryOptions = {
    colWidth: 0.96,
    rowHeight: 0.9,
    showValue: VisibilityMode.Never,
    legend: { ...legend, showLegend: true },
    tooltip: { ...tooltip, mode: TooltipDisplayMode.Single },
  };
  return panel('status-history', about, options, { fillOpacity: 85, lineWidth: 0 }, true);
}

/** Two fields without lines of their own, and what lies between them filled. */
export function band(low: string, high: string, shade: string): Exception<GraphFieldConfig>[] {
  const hidden = { lineWidth: 0, hideFrom: { legend: true, tooltip: false, viz: false } };
  return [
    { field: low, colour: shade, custom: hidden },
    { field: high, colour: shade, custom: { ...hidden, fillBelowTo: low, fillOpacity: 18 } },
  ];
}

/** A line that others are compared with. */
export function dashes(field: string, shade: string = colour.reference): Exception<GraphFieldConfig> {
  return { field, colour: shade, custom: { lineWidth: 1, lineStyle: { fill: 'dash', dash: [8, 6] } } };
}

// --- boards ---

export interface Row {
  title?: string;
  height: number;
  /** Panels with their widths, which sum to 24. */
  panels: [number, Panel][];
}

export interface Board {
  uid: string;
  title: string;
  description: string;
  variables: VariableModel[];
  /** What is told as annotations. */
  tells: AnnotationQuery[];
  /** The range of time that it opens with. */
  from: string;
  links?: DashboardLink[];
  rows: Row[];
}

export function board(about: Board): Dashboard {
  return {
    uid: about.uid,
    title: `Foretime: ${about.title}`,
    description: about.description,
    tags: ['foretime'],
    schemaVersion: 42,
    version: 1,
    editable: true,
    graphTooltip: DashboardCursorSync.Crosshair,
    refresh: '30s',
    timezone: 'utc',
    time: { from: about.from, to: 'now' },
    links: [others, ...(about.links ?? [])],
    templating: { list: about.variables },
    annotations: { list: about.tells },
    panels: place(about.rows),
  };
}

function place(rows: Row[]): (Panel | RowPanel)[] {
  const placed: (Panel | RowPanel)[] = [];
  let y = 0;
  for (const row of rows) {
    if (row.title) {
      const gridPos = { h: 1, w: 24, x: 0, y: y++ };
      placed.push({ id: placed.length + 1, type: 'row', title: row.title, collapsed: false, panels: [], gridPos });
    }
    let x = 0;
    for (const [w, panel] of row.panels) {
      placed.push({ ...panel, id: placed.length + 1, gridPos: { h: row.height, w, x, y } });
      x += w;
    }
    if (x !== 24) {
      throw new Error(`the row with \`${row.panels[0]![1].title}\` is ${x} wide, not 24`);
    }
    y += row.height;
  }
  return placed;
}

const others: DashboardLink = {
  title: 'Boards',
  type: 'dashboards',
  icon: 'external link',
  tags: ['foretime'],
  asDropdown: true,
  includeVars: true,
  keepTime: true,
  targetBlank: false,
  tooltip: 'The other boards, with the same project, model and time',
  url: '',
};

/** The two months that the flights demo replays. */
export function demoDays(uid: string): DashboardLink {
  const range = 'from=1383264000000&to=1388793600000';
  return {
    ...others,
    title: "The demo's days",
    type: 'link',
    icon: 'bolt',
    tags: [],
    asDropdown: false,
    keepTime: false,
    tooltip: 'November and December 2013, which the flights demo replays',
    url: `/d/${uid}?${range}`,
  };
}

/** A link to another board that takes the time range along. */
export function to(uid: string, title: string, variables: Record<string, string>): Link {
  const taken = Object.entries(variables).map(([name, value]) => `var-${name}=${value}`);
  return { title, url: `/d/${uid}?${[...taken, '${__url_time_range}'].join('&')}` };
}

// --- variables ---

interface Choice {
  name: string;
  label?: string;
  query: string;
  first: string;
  many?: boolean;
}

/** A variable whose values the database knows. */
export function choice(of: Choice): VariableModel {
  const many = of.many ?? false;
  return {
    name: of.name,
    label: of.label ?? of.name,
    type: 'query',
    datasource: postgres,
    query: tidy(of.query),
    definition: tidy(of.query),
    refresh: VariableRefresh.onTimeRangeChanged,
    multi: many,
    includeAll: many,
    hide: VariableHide.dontHide,
    skipUrlSync: false,
    current: many ? { text: ['All'], value: ['$__all'] } : { text: of.first, value: of.first },
    options: [],
    regex: '',
  } as VariableModel;
}

export const project = choice({
  name: 'project',
  query: 'select distinct project from grafana_freshness order by 1',
  first: 'default',
});

export const model = choice({
  name: 'model',
  query: `select registered_model from grafana_daily_predictions where project = \${project:sqlstring}
          group by 1 order by max(day) desc, 1`,
  first: 'late-arrival',
});

export const version = choice({
  name: 'version',
  query: `select distinct version::text from grafana_daily_predictions
          where project = \${project:sqlstring} and registered_model = \${model:sqlstring} order by 1`,
  first: '',
  many: true,
});

export const monitor = choice({
  name: 'monitor',
  query: `select distinct monitor from grafana_monitor_windows
          where project = \${project:sqlstring} and registered_model = \${model:sqlstring} order by 1`,
  first: 'late_arrival',
});

// --- what happened, on every board that shows days ---

function told(name: string, iconColor: string, rawSql: string): AnnotationQuery {
  const target = { ...rows(rawSql), refId: 'Anno' };
  return { name, enable: true, hide: false, iconColor, datasource: postgres, target };
}

export const incidents = told(
  'Incidents',
  colour.bad,
  `select extract(epoch from opened_at) * 1000 as time, extract(epoch from resolved_at) * 1000 as timeend,
          cause || ': ' || summary as text, severity as tags
   from grafana_incidents where $__timeFilter(opened_at) and project = \${project:sqlstring}`,
);

export const deployments = told(
  'Deployments',
  colour.quiet,
  `select extract(epoch from at) * 1000 as time,
          registered_model || ': ' || alias || ' ' || outcome || ' to v' || to_version as text, outcome as tags
   from grafana_alias_moves
   where $__timeFilter(at) and project = \${project:sqlstring} and outcome <> 'refused' and to_version is not null`,
);
