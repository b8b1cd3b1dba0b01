// Bar charts and matrices. Grafana keeps those panels outside `@grafana/ui`; here its plot, axes, legend and colours
// are used, and
// only the rectangles are ours.

import {
  formattedValueToString,
  getFieldDisplayName,
  getFieldSeriesColor,
  FieldType,
  type DataFrame,
  type Field,
} from '@grafana/data';
import {
  AxisPlacement,
  GraphDrawStyle,
  ScaleDirection,
  ScaleOrientation,
  StackingMode,
  VizOrientation,
  type Panel,
} from '@grafana/schema';
import { UPlotChart, UPlotConfigBuilder, VizLayout, VizLegend, type VizLegendItem } from '@grafana/ui';
import type { ReactNode } from 'react';
import type uPlot from 'uplot';

import type { Asked } from './collect.js';
import { theme } from './frames.js';

interface Size {
  width: number;
  height: number;
}

export function WithLegend({
  items,
  size,
  children,
}: {
  items: VizLegendItem[];
  size: Size;
  children: (size: Size) => ReactNode;
}) {
  const legend = items.length > 0 && (
    <VizLayout.Legend placement="bottom">
      <VizLegend placement="bottom" displayMode={'list' as never} items={items} />
    </VizLayout.Legend>
  );
  return (
    <VizLayout width={size.width} height={size.height} legend={legend || null}>
      {(width: number, height: number) => children({ width, height })}
    </VizLayout>
  );
}

function item(label: string, color: string): VizLegendItem {
  return { label, color, yAxis: 1 };
}

function plot(builder: UPlotConfigBuilder, columns: number, size: Size, draw: (u: uPlot) => void) {
  builder.addSeries({
    scaleKey: 'y',
    theme,
    drawStyle: GraphDrawStyle.Line,
    pathBuilder: () => null,
    pxAlign: true,
  } as never);
  builder.addHook('draw', (u: uPlot) => {
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    draw(u);
    u.ctx.restore();
  });
  const data = [Array.from({ length: columns }, (_, index) => index), Array<null>(columns).fill(null)];
  return <UPlotChart data={data as never} config={builder} width={size.width} height={size.height} />;
}

const named = (field: Field, frame: DataFrame) => getFieldDisplayName(field, frame);
const shade = (field: Field) => getFieldSeriesColor(field, theme).color;
const shorten = (text: string, length: number) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

export function BarChart({ frame, panel, size }: { frame: DataFrame; panel: Panel; size: Size }) {
  const options = panel.options as {
    orientation: VizOrientation;
    stacking: StackingMode;
    legend: { showLegend: boolean };
  };
  const groups = frame.fields[0]!;
  const numbers = frame.fields.filter((field) => field.type === FieldType.number && field !== groups);
  const items = options.legend.showLegend ? numbers.map((field) => item(named(field, frame), shade(field))) : [];
  const lying = options.orientation === VizOrientation.Horizontal;
  const stacked = options.stacking === StackingMode.Normal;
  const rows = groups.values.length;
  const totals = groups.values.map((_, row) =>
    numbers.map((field) => Number(field.values[row] ?? 0)).reduce((a, b) => (stacked ? a + b : Math.max(a, b)), 0),
  );
  const top = numbers[0]?.config.max ?? Math.max(...totals) * 1.05;

  return (
    <WithLegend items={items} size={size}>
      {(inner) => {
        const builder = new UPlotConfigBuilder('utc');
        builder.addScale({
          scaleKey: 'x',
          orientation: lying ? ScaleOrientation.Vertical : ScaleOrientation.Horizontal,
          direction: lying ? ScaleDirection.Down : ScaleDirection.Right,
          range: () => [-0.5, rows - 0.5],
        });
        builder.addScale({
          scaleKey: 'y',
          orientation: lying ? ScaleOrientation.Horizontal : ScaleOrientation.Vertical,
          direction: lying ? ScaleDirection.Right : ScaleDirection.Up,
          range: () => [0, top],
        });
        const longest = Math.max(...groups.values.map((value) => shorten(String(value), 34).length));
        const every = lying ? 1 : Math.max(1, Math.ceil((rows * longest * 8) / inner.width));
        builder.addAxis({
          scaleKey: 'x',
          theme,
          placement: lying ? AxisPlacement.Left : AxisPlacement.Bottom,
          splits: groups.values.map((_, row) => row).filter((row) => row % every === 0),
          values: groups.values.map((value) => shorten(String(value), 34)).filter((_, row) => row % every === 0),
          grid: { show: false },
          ticks: { show: false },
          ...(lying ? { size: longest * 7 + 14 } : {}),
        });
        builder.addAxis({
          scaleKey: 'y',
          theme,
          placement: lying ? AxisPlacement.Bottom : AxisPlacement.Left,
          formatValue: (value: unknown) => formattedValueToString(numbers[0]!.display!(value)),
        });
        return plot(builder, rows, inner, (u) => {
          const place = (row: number) => u.valToPos(row, 'x', true);
          const room = Math.abs(place(1) - place(0)) * 0.78;
          for (let row = 0; row < rows; row++) {
            let base = 0;
            numbers.forEach((field, index) => {
              const value = Number(field.values[row] ?? 0);
              const thickness = stacked ? room : room / numbers.length;
              const start = place(row) - room / 2 + (stacked ? 0 : thickness * index);
              const [from, to] = [u.valToPos(base, 'y', true), u.valToPos(base + value, 'y', true)];
              u.ctx.fillStyle = shade(field);
              if (lying) {
                u.ctx.fillRect(from, start, to - from, Math.max(1, thickness - 1));
              } else {
                u.ctx.fillRect(start, to, Math.max(1, thickness - 1), from - to);
              }
              base += stacked ? value : 0;
            });
          }
        });
      }}
    </WithLegend>
  );
}

/** One cell a field and moment, coloured by the field's thresholds. */
export function StatusHistory({ asked, frame, size }: { asked: Asked; frame: DataFrame; size: Size }) {
  const time = frame.fields.find((field) => field.type === FieldType.time)!;
  const series = frame.fields.filter((field) => field.type === FieldType.number);
  const steps = series[0]?.config.thresholds?.steps ?? [];
  const items = steps.map((step, index) => {
    const next = steps[index + 1]?.value;
    const label = index === 0 ? `< ${next}` : next === undefined ? `${step.value}+` : `${step.value} to ${next}`;
    return item(label, theme.visualization.getColorByName(step.color));
  });
  const times = time.values as number[];
  const pitch = Math.min(...times.slice(1).map((at, index) => at - times[index]!));

  return (
    <WithLegend items={items} size={size}>
      {(inner) => {
        const builder = new UPlotConfigBuilder('utc');
        builder.addScale({
          scaleKey: 'x',
          isTime: true,
          orientation: ScaleOrientation.Horizontal,
          direction: ScaleDirection.Right,
          range: () => [asked.range.from, asked.range.to],
        });
        builder.addScale({
          scaleKey: 'y',
          orientation: ScaleOrientation.Vertical,
          direction: ScaleDirection.Up,
          range: () => [-0.5, series.length - 0.5],
        });
        builder.addAxis({ scaleKey: 'x', isTime: true, placement: AxisPlacement.Bottom, theme, timeZone: 'utc' });
        const names = series.map((field) => shorten(named(field, frame), 40));
        builder.addAxis({
          scaleKey: 'y',
          theme,
          placement: AxisPlacement.Left,
          splits: series.map((_, index) => series.length - 1 - index),
          values: names,
          grid: { show: false },
          ticks: { show: false },
          size: Math.max(...names.map((name) => name.length)) * 7 + 14,
        });
        return plot(builder, times.length, inner, (u) => {
          const rowHeight = Math.abs(u.valToPos(1, 'y', true) - u.valToPos(0, 'y', true));
          series.forEach((field, index) => {
            const middle = u.valToPos(series.length - 1 - index, 'y', true);
            field.values.forEach((value, at) => {
              if (value === null) {
                return;
              }
              const [from, to] = [times[at]!, times[at]! + pitch].map((moment) => u.valToPos(moment, 'x', true));
              u.ctx.fillStyle = field.display!(value).color!;
              u.ctx.globalAlpha = 0.85;
              u.ctx.fillRect(from! + 1, middle - rowHeight * 0.45, to! - from! - 1, rowHeight * 0.9);
            });
          });
          u.ctx.globalAlpha = 1;
        });
      }}
    </WithLegend>
  );
}
