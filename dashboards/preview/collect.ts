// Asks every query of the boards as Grafana would, of a real Postgres as the boards' role and of a real Prometheus,
// and writes
// the answers into one file:
//
//   node collect.js BOARDS PSQL_ARGUMENTS PROMETHEUS_URL SINCE OUT PSQL
//
// Boards that open with days show the days of the flights demo, the one on jobs what happened SINCE (milliseconds
// since 1970), and
// the one on serving the last minutes.

import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Dashboard, Panel, VariableModel } from '@grafana/schema';

const DEMO_DAYS = { from: Date.UTC(2013, 10, 1), to: Date.UTC(2014, 0, 1) - 1 };
const MINUTES = 4;
const POINTS = 120;

export interface Column {
  name: string;
  kind: 'time' | 'number' | 'string';
  values: unknown[];
}

export interface Answer {
  refId: string;
  frames: Column[][];
}

export interface Asked {
  dashboard: Dashboard;
  range: { from: number; to: number };
  variables: Record<string, string[]>;
  answers: Record<number, Answer[]>;
  annotations: { name: string; colour: string; times: number[] }[];
}

type Values = Record<string, string[]>;
type Range = Asked['range'];

const [boards, database, prometheus, since, out, psql] = process.argv.slice(2) as string[] as [
  string,
  string,
  string,
  string,
  string,
  string,
];

const names = readdirSync(boards).filter((name) => name.endsWith('.json'));
const asked: Record<string, Asked> = {};
const empty: string[] = [];
for (const name of names) {
  const dashboard = JSON.parse(readFileSync(join(boards, name), 'utf8')) as Dashboard;
  asked[name.replace('.json', '')] = await ask(dashboard);
}
writeFileSync(out, JSON.stringify(asked));
if (empty.length > 0) {
  console.error(`nothing answers:\n  ${empty.join('\n  ')}`);
  process.exit(1);
}

async function ask(dashboard: Dashboard): Promise<Asked> {
  const range = rangeOf(dashboard);
  const variables: Values = {};
  for (const variable of dashboard.templating?.list ?? []) {
    variables[variable.name] = choose(variable, variables, range);
  }
  const answers: Asked['answers'] = {};
  for (const panel of (dashboard.panels ?? []) as Panel[]) {
    if (panel.type === 'row') {
      continue;
    }
    answers[panel.id!] = await Promise.all((panel.targets ?? []).map((target) => answer(target, variables, range)));
    if (!answers[panel.id!]!.some((answer) => answer.frames.some(holds))) {
      empty.push(`${dashboard.title}: ${panel.title}`);
    }
  }
  const annotations = (dashboard.annotations?.list ?? []).map((query) => {
    const [frame] = select(String((query.target as unknown as { rawSql: string }).rawSql), variables, range);
    const times = frame?.find((column) => column.name === 'time')?.values as number[] | undefined;
    return { name: query.name, colour: query.iconColor, times: times ?? [] };
  });
  return { dashboard, range, variables, answers, annotations };
}

function rangeOf(dashboard: Dashboard): Range {
  const to = Date.now();
  switch (dashboard.time?.from) {
    case 'now-1h':
      return { from: to - MINUTES * 60_000, to };
    case 'now-6h':
      return { from: Number(since), to };
    default:
      return DEMO_DAYS;
  }
}

/** Whether a frame has a number or a text that says something. */
function holds(frame: Column[]): boolean {
  return frame.some((column) => column.kind !== 'time' && column.values.some((value) => value !== null));
}

/** The first value of a variable, or all where all may be chosen. */
function choose(variable: VariableModel, variables: Values, range: Range): string[] {
  const [frame] = select(String(variable.query), variables, range);
  const column = frame?.find((column) => column.name === '__value') ?? frame?.[0];
  const values = (column?.values ?? []).map(String);
  return variable.multi ? values : values.slice(0, 1);
}

async function answer(target: Record<string, unknown>, variables: Values, range: Range): Promise<Answer> {
  const refId = String(target.refId);
  if (typeof target.rawSql === 'string') {
    const frames = select(target.rawSql, variables, range);
    return { refId, frames: target.format === 'time_series' ? frames.map(wide) : frames };
  }
  return { refId, frames: await measure(target, range) };
}

// --- Postgres ---

function select(query: string, variables: Values, range: Range): Column[][] {
  const text = interpolate(query, variables).replace(
    /\$__timeFilter\(([^)]+)\)/g,
    (_, column) => `${column} between '${iso(range.from)}' and '${iso(range.to)}'`,
  );
  const json = `select json_agg(row) from (${text}) row`;
  const output = execFileSync(psql, [
    ...database.split(' '),
    '-X',
    '-At',
    '-v',
    'ON_ERROR_STOP=1',
    '-c',
    json,
  ]).toString();
  const rows = (JSON.parse(output.trim() || 'null') ?? []) as Record<string, unknown>[];
  return rows.length === 0
    ? []
    : [
        Object.keys(rows[0]!).map((name) =>
          column(
            name,
            rows.map((row) => row[name]),
          ),
        ),
      ];
}

function iso(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

function interpolate(text: string, variables: Values): string {
  return text.replace(
    /\$\{(\w+):sqlstring\}/g,
    (_, name: string) => (variables[name] ?? []).map((value) => `'${value.replaceAll("'", "''")}'`).join(',') || "''",
  );
}

function column(name: string, values: unknown[]): Column {
  const known = values.filter((value) => value !== null);
  if (known.length > 0 && known.every((value) => typeof value === 'string' && /^\d{4}-\d\d-\d\dT/.test(value))) {
    return { name, kind: 'time', values: values.map((value) => (value === null ? null : Date.parse(String(value)))) };
  }
  return { name, kind: known.every((value) => typeof value === 'number') ? 'number' : 'string', values };
}

/** One column a value of `metric`, as Grafana makes of the format `time_series`. */
function wide(frame: Column[]): Column[] {
  const metric = frame.find((column) => column.name === 'metric');
  const time = frame.find((column) => column.name === 'time')!;
  if (!metric) {
    return frame.map((column) => (column === time ? { ...column, name: 'Time' } : { ...column, kind: 'number' }));
  }
  const value = frame.find((column) => column.kind === 'number')!;
  const times = [...new Set(time.values as number[])].sort((a, b) => a - b);
  const at = new Map(times.map((time, index) => [time, index]));
  const columns = new Map<string, unknown[]>();
  metric.values.forEach((name, row) => {
    const values = columns.get(String(name)) ?? Array<unknown>(times.length).fill(null);
    values[at.get(time.values[row] as number)!] = value.values[row];
    columns.set(String(name), values);
  });
  const series = [...columns].map(([name, values]): Column => ({ name, kind: 'number', values }));
  return [{ name: 'Time', kind: 'time', values: times }, ...series];
}

// --- Prometheus ---

async function measure(target: Record<string, unknown>, range: Range): Promise<Column[][]> {
  const query = String(target.expr).replaceAll('$__rate_interval', '20s');
  const [from, to] = [range.from / 1000, range.to / 1000];
  const path = target.instant ? `query?time=${to}` : `query_range?start=${from}&end=${to}&step=${(to - from) / POINTS}`;
  const response = await fetch(`${prometheus}/api/v1/${path}&query=${encodeURIComponent(query)}`);
  const answer = (await response.json()) as { error?: string; data: { result: Series[] } };
  if (answer.error) {
    throw new Error(`${query}: ${answer.error}`);
  }
  return answer.data.result.map((series) => {
    const points = series.values ?? [series.value!];
    const name = String(target.legendFormat).replace(
      /\{\{(\w+)\}\}/g,
      (_, label: string) => series.metric[label] ?? '',
    );
    const numbers = points.map(([, value]) => (Number.isFinite(Number(value)) ? Number(value) : null));
    return [
      { name: 'Time', kind: 'time', values: points.map(([time]) => time * 1000) },
      { name, kind: 'number', values: numbers },
    ];
  });
}

interface Series {
  metric: Record<string, string>;
  value?: [number, string];
  values?: [number, string][];
}
