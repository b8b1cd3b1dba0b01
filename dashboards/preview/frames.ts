// Answers as Grafana's data frames, with the panel's field options and overrides applied by Grafana's own code.

import {
  applyFieldOverrides,
  createTheme,
  FieldType,
  Registry,
  toDataFrame,
  type DataFrame,
  type FieldConfigOptionsRegistry,
  type FieldConfigSource,
} from '@grafana/data';
import type { Panel } from '@grafana/schema';

import type { Answer, Asked } from './collect.js';

export const theme = createTheme({ colors: { mode: 'dark' } });

const TYPES = { time: FieldType.time, number: FieldType.number, string: FieldType.string };

export function interpolate(asked: Asked, text: string): string {
  return text.replace(/\$\{?(\w+)(?::\w+)?\}?/g, (whole, name: string) => asked.variables[name]?.join(' + ') ?? whole);
}

export function framesOf(asked: Asked, panel: Panel, answers: Answer[]): DataFrame[] {
  const bare = answers.flatMap((answer) =>
    answer.frames.map((frame) =>
      toDataFrame({
        refId: answer.refId,
        fields: frame.map(({ name, kind, values }) => ({ name, type: TYPES[kind], values, config: {} })),
      }),
    ),
  );
  return applyFieldOverrides({
    data: bare,
    fieldConfig: panel.fieldConfig as unknown as FieldConfigSource,
    fieldConfigRegistry: registry(panel) as unknown as FieldConfigOptionsRegistry,
    replaceVariables: (text) => interpolate(asked, text),
    theme,
    timeZone: 'utc',
  });
}

/**
 * The options that the panel's overrides name. In Grafana a panel's plugin registers them; what a plugin adds (editors,
 * checks) plays no part in drawing.
 */
function registry(panel: Panel) {
  const set = (panel.fieldConfig?.overrides ?? []).flatMap((override) => override.properties.map(({ id }) => id));
  const own = Object.keys((panel.fieldConfig?.defaults as { custom?: object }).custom ?? {}).map(
    (key) => `custom.${key}`,
  );
  const always = [
    'unit',
    'decimals',
    'min',
    'max',
    'thresholds',
    'mappings',
    'color',
    'displayName',
    'links',
    'noValue',
  ];
  const ids = [...new Set([...always, ...set, ...own])];
  return new Registry(
    () =>
      ids.map((id) => ({
        id,
        path: id.replace(/^custom\./, ''),
        isCustom: id.startsWith('custom.'),
        name: id,
        process: (value: unknown) => value,
        shouldApply: () => true,
      })) as never[],
  );
}
