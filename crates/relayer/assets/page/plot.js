// Plots over time, drawn by uPlot in the colours of the page.

import { bytes, clock } from "./format.js";
import { theme } from "./session.js";
import { html, useEffect, useMemo, useRef, useShared, useState } from "./ui.js";
import uPlot from "./vendor/uPlot.mjs";

const HEIGHT = 150;

/** The least span of the time axis in seconds, so that a few points are not stretched over it. */
const SPAN_MIN = 600;

/** The least number of pixels between two labels of the vertical axis. */
const LABEL_SPACE = 32;

/** Steps of the vertical axis for bytes: powers of two. */
const BINARY_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power);

const darkScheme = matchMedia("(prefers-color-scheme: dark)");

/** Changes when the colours change. */
function useColours() {
  const chosen = useShared(theme);
  const [isDark, setDark] = useState(darkScheme.matches);
  useEffect(() => {
    const changed = () => setDark(darkScheme.matches);
    darkScheme.addEventListener("change", changed);
    return () => darkScheme.removeEventListener("change", changed);
  }, []);
  return `${chosen} ${isDark}`;
}

/** The value of a colour variable, as a canvas needs it. */
function colour(element, variable) {
  element.style.color = `var(${variable})`;
  const value = getComputedStyle(element).color;
  element.style.color = "";
  return value;
}

/** The points that no line would show, because their neighbours are missing. */
function isolated(plot, series) {
  const values = plot.data[series];
  return values.flatMap((value, at) => (value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null ? [at] : []));
}

const timeRange = (plot, min, max) => (max === null ? [0, SPAN_MIN] : [Math.min(min, max - SPAN_MIN), max]);
const valueRange = (plot, min, max) => (max > 0 ? uPlot.rangeNum(0, max, 0.12, true) : [0, 1]);

function options(element, series, format, width, onHover) {
  const [dim, line] = ["--dim", "--line"].map((name) => colour(element, name));
  const axis = { stroke: dim, font: "11px system-ui, sans-serif", ticks: { show: false }, grid: { stroke: line, width: 1 } };
  return {
    width,
    height: HEIGHT,
    padding: [8, 4, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "page" }, drag: { setScale: false, x: false, y: false }, y: false, points: { size: 6 } },
    scales: { x: { time: true, range: timeRange }, y: { range: valueRange } },
    axes: [
      { ...axis, size: 26, space: 90, grid: { show: false }, values: (plot, ticks) => ticks.map((at) => clock(1000 * at).slice(0, 5)) },
      { ...axis, size: 58, space: LABEL_SPACE, ...(format === bytes && { incrs: BINARY_STEPS }), values: (plot, ticks) => ticks.map((value) => format(value)) },
    ],
    series: [
      {},
      ...series.map(({ label, variable, dash }) => {
        const stroke = colour(element, variable);
        const fill = series.length === 1 ? stroke.replace("rgb(", "rgba(").replace(")", ", 0.1)") : undefined;
        return { label, stroke, fill, dash, width: 1.5, points: { show: true, size: 4, width: 0, fill: stroke, filter: isolated } };
      }),
    ],
    hooks: { setCursor: [(plot) => onHover(plot.cursor.idx ?? null)] },
  };
}

/** The last known value of a series, for its text alternative. */
const last = (values) => values.findLast((value) => value !== null) ?? null;

/**
 * A plot. `time` are Unix seconds; `series` are { label, variable, values, dash? }, with the name of
 * a colour variable; `format` writes a value with its unit.
 */
export function Plot({ title, time, series, format }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [hover, setHover] = useState(null);
  const colours = useColours();
  const data = useMemo(() => [time, ...series.map(({ values }) => values)], [time, ...series.map(({ values }) => values)]);

  useEffect(() => {
    const element = box.current;
    plot.current = new uPlot(options(element, series, format, element.clientWidth, setHover), data, element);
    const observer = new ResizeObserver(() => {
      if (element.clientWidth) plot.current.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [colours]);
  useEffect(() => plot.current.setData(data), [data]);

  const shown = series.map(({ label, variable, dash, values }) => {
    const value = hover === null ? last(values) : values[hover] ?? null;
    return { label, variable, dash, value: value === null ? "–" : format(value) };
  });
  const about = `${title} over the last hour. Latest: ${series.map(({ label, values }) => {
    const value = last(values);
    return `${label} ${value === null ? "unknown" : format(value)}`;
  }).join(", ")}`;
  return html`<figure class="panel plot">
    <figcaption><h2>${title}</h2><span class="spring"></span>
      <span class="plot-time dim">${hover !== null && time[hover] ? clock(1000 * time[hover]) : ""}</span></figcaption>
    <ul class="legend">${shown.map(({ label, variable, dash, value }) => html`<li key=${label}>
      <span class="swatch ${dash ? "dashed" : ""}" style=${{ "--colour": `var(${variable})` }}></span>${label} <strong>${value}</strong></li>`)}</ul>
    <div class="canvas" ref=${box} role="img" aria-label=${about}></div>
  </figure>`;
}
