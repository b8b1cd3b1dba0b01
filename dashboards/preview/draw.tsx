// Draws one board from collected answers with the components of `@grafana/ui`.

import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';

import {
  dateTime,
  FieldMatcherID,
  fieldMatchers,
  FieldType,
  ThemeContext,
  type DataFrame,
  type TimeRange,
} from '@grafana/data';
import type { Dashboard, GridPos, Panel } from '@grafana/schema';
import {
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueJustifyMode,
  BigValueTextMode,
  GlobalStyles,
  PanelChrome,
  TimeSeries,
  type UPlotConfigBuilder,
} from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { createRoot } from 'react-dom/client';
import type uPlot from 'uplot';

import { BarChart, StatusHistory } from './canvas.js';
import type { Asked } from './collect.js';
import { framesOf, interpolate, theme } from './frames.js';

const WIDTH = 1440;
const MARGIN = 16;
const GAP = 8;
const CELL = 30;
const COLUMN = (WIDTH - 2 * MARGIN + GAP) / 24;

declare global {
  interface Window {
    BOARDS: Record<string, Asked>;
  }
}

function Drawn({ asked, panel, width, height }: { asked: Asked; panel: Panel; width: number; height: number }) {
  const frames = framesOf(asked, panel, asked.answers[panel.id!] ?? []);
  const size = { width, height };
  const frame = frames[0];
  if (!frame) {
    return <div>no data</div>;
  }
  switch (panel.type) {
    case 'stat':
      return <Stat frame={frame} width={width} height={height} />;
    case 'table':
      return (
        <TableNG
          data={frame}
          width={width}
          height={height}
          fieldConfig={panel.fieldConfig as never}
          cellHeight={'sm' as never}
        />
      );
    case 'barchart':
      return <BarChart frame={frame} panel={panel} size={size} />;
    case 'status-history':
      return <StatusHistory asked={asked} frame={frame} size={size} />;
    default:
      return <Lines asked={asked} panel={panel} frames={frames} width={width} height={height} />;
  }
}

function Stat({ frame, width, height }: { frame: DataFrame; width: number; height: number }) {
  const field = frame.fields.find((field) => field.type === FieldType.number) ?? frame.fields[0]!;
  const value = field.display!(field.values[field.values.length - 1]);
  return (
    <BigValue
      value={value}
      width={width}
      height={height}
      theme={theme}
      colorMode={BigValueColorMode.Value}
      graphMode={BigValueGraphMode.None}
      justifyMode={BigValueJustifyMode.Center}
      textMode={BigValueTextMode.Value}
    />
  );
}

/** Time series; and trends and XY charts, which are lines over a number. */
function Lines({
  asked,
  panel,
  frames,
  width,
  height,
}: {
  asked: Asked;
  panel: Panel;
  frames: DataFrame[];
  width: number;
  height: number;
}) {
  const overTime = panel.type === 'timeseries';
  const drawn = overTime ? frames : frames.map((frame) => overNumber(frame, panel));
  const x = overTime
    ? fieldMatchers.get(FieldMatcherID.firstTimeField).get({})
    : fieldMatchers.get(FieldMatcherID.byName).get(drawn[0]!.fields[0]!.name);
  const y = fieldMatchers.get(FieldMatcherID.byTypes).get(new Set([FieldType.number, FieldType.enum]));
  const events = overTime ? asked.annotations : [];
  return (
    <TimeSeries
      frames={drawn}
      timeRange={rangeOf(asked)}
      timeZone="utc"
      width={width}
      height={height}
      legend={(panel.options as { legend: never }).legend}
      fields={{ x, y }}
      options={{}}
    >
      {(builder: UPlotConfigBuilder) => {
        mark(builder, events);
        if (!overTime) {
          builder.setPadding([null, 20, null, null]);
        }
        return null;
      }}
    </TimeSeries>
  );
}

/** What an XY chart calls `show` is drawn as points of a line. */
function overNumber(frame: DataFrame, panel: Panel): DataFrame {
  const fields = frame.fields.map((field, index) => {
    const custom = field.config.custom ?? {};
    const points =
      panel.type === 'xychart' ? (String(custom.show).includes('points') ? 'always' : 'never') : custom.showPoints;
    const pointSize = custom.pointSize?.fixed ?? custom.pointSize;
    const config = {
      ...field.config,
      custom: { ...custom, showPoints: points, pointSize, spanNulls: true, fillOpacity: 0 },
    };
    return index === 0 ? { ...field, config: { ...config, displayName: undefined } } : { ...field, config };
  });
  return { ...frame, fields };
}

const marked = new WeakSet<UPlotConfigBuilder>();

function mark(builder: UPlotConfigBuilder, events: Asked['annotations']) {
  if (marked.has(builder)) {
    return;
  }
  marked.add(builder);
  builder.addHook('draw', (u: uPlot) => {
    u.ctx.save();
    u.ctx.setLineDash([4, 4]);
    for (const { colour, times } of events) {
      const shade = theme.visualization.getColorByName(colour);
      for (const time of times) {
        const x = Math.round(u.valToPos(time, 'x', true));
        if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) {
          continue;
        }
        const bottom = u.bbox.top + u.bbox.height;
        u.ctx.strokeStyle = u.ctx.fillStyle = shade;
        u.ctx.beginPath();
        u.ctx.moveTo(x, u.bbox.top);
        u.ctx.lineTo(x, bottom);
        u.ctx.stroke();
        u.ctx.beginPath();
        u.ctx.moveTo(x - 5, bottom + 5);
        u.ctx.lineTo(x + 5, bottom + 5);
        u.ctx.lineTo(x, bottom);
        u.ctx.fill();
      }
    }
    u.ctx.restore();
  });
}

function rangeOf(asked: Asked): TimeRange {
  const [from, to] = [dateTime(asked.range.from), dateTime(asked.range.to)];
  return { from, to, raw: { from, to } };
}

function box({ x, y, w, h }: GridPos) {
  return { left: x * COLUMN, top: y * (CELL + GAP), width: w * COLUMN - GAP, height: h * (CELL + GAP) - GAP };
}

function Board({ asked }: { asked: Asked }) {
  const panels = (asked.dashboard.panels ?? []) as Panel[];
  const bottom = Math.max(...panels.map((panel) => panel.gridPos!.y + panel.gridPos!.h));
  return (
    <div style={{ width: WIDTH, padding: MARGIN, background: theme.colors.background.canvas, boxSizing: 'border-box' }}>
      <Head asked={asked} dashboard={asked.dashboard} />
      <div style={{ position: 'relative', height: bottom * (CELL + GAP) }}>
        {panels.map((panel) => (
          <div key={panel.id} style={{ position: 'absolute', ...box(panel.gridPos!) }}>
            {panel.type === 'row' ? <RowTitle title={panel.title!} /> : <Framed asked={asked} panel={panel} />}
          </div>
        ))}
      </div>
    </div>
  );
}

function Framed({ asked, panel }: { asked: Asked; panel: Panel }) {
  const { width, height } = box(panel.gridPos!);
  return (
    <PanelChrome title={interpolate(asked, panel.title!)} width={width} height={height} padding="md">
      {(innerWidth, innerHeight) => <Drawn asked={asked} panel={panel} width={innerWidth} height={innerHeight} />}
    </PanelChrome>
  );
}

function RowTitle({ title }: { title: string }) {
  return <div style={{ ...theme.typography.h5, padding: '4px 2px', color: theme.colors.text.primary }}>{title}</div>;
}

function Head({ asked, dashboard }: { asked: Asked; dashboard: Dashboard }) {
  const at = (time: number) => new Date(time).toISOString().slice(0, 16).replace('T', ' ');
  const pill = {
    background: theme.components.input.background,
    border: `1px solid ${theme.colors.border.medium}`,
    padding: '3px 8px',
    borderRadius: 4,
  };
  return (
    <div
      style={{
        display: 'flex',
        gap: 6,
        alignItems: 'center',
        whiteSpace: 'nowrap',
        paddingBottom: 12,
        color: theme.colors.text.primary,
        fontSize: 12,
      }}
    >
      <span style={{ ...theme.typography.h4, marginRight: 12 }}>{dashboard.title}</span>
      {Object.entries(asked.variables).map(([name, values]) => (
        <span key={name} style={pill}>
          <span style={{ color: theme.colors.text.secondary }}>{name} </span>
          {values.join(' + ')}
        </span>
      ))}
      <span style={{ ...pill, marginLeft: 'auto' }}>
        {at(asked.range.from)} to {at(asked.range.to)}
      </span>
    </div>
  );
}

const asked = window.BOARDS[location.hash.slice(1)]!;
createRoot(document.getElementById('root')!).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <Board asked={asked} />
  </ThemeContext.Provider>,
);
