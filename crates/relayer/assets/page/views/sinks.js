// The sinks and the named consumers: the progress of each, and the reason if its delivery has
// stopped.

import { get } from "../api.js";
import { Badge, Empty, Loading, Panel, Problem, Untrusted } from "../components.js";
import { count, duration, relative, short } from "../format.js";
import { Table } from "../table.js";
import { html, usePolled } from "../ui.js";
import { Consumers } from "./consumers.js";
import { Sink } from "./sink.js";

const REFRESH_SECONDS = 3;

/** The states of a sink: kind of the badge, and name. */
const STATES = {
  live: ["ok", "Live"],
  catching_up: ["busy", "Catching up"],
  connecting: ["busy", "Connecting"],
  retrying: ["warn", "Retrying"],
  parked: ["bad", "Parked"],
  paused: ["idle", "Paused"],
  stopped: ["idle", "Stopped"],
};

export function SinkState({ status }) {
  const [kind, name] = STATES[status] ?? ["idle", status];
  return html`<${Badge} kind=${kind}>${name}<//>`;
}

export const perSecond = (rate) => (rate === null ? "–" : `${short(rate)} /s`);

/** How far a receiver is behind, in seconds; nothing if it has everything. */
export const behind = ({ lag, lag_seconds: seconds }) => (lag === 0 ? "–" : duration(seconds, 1));

export const linkToSink = (name) => `#/sinks?${new URLSearchParams({ sink: name })}`;

/** Why a sink gets nothing now, or its last error. */
function Reason({ sink }) {
  const text = sink.reason ?? sink.last_error;
  if (!text) return html`<span class="dim">no error</span>`;
  const next = sink.until_ms && html` <span class="dim">(next attempt ${relative(sink.until_ms)})</span>`;
  return html`<span class=${sink.reason ? "" : "dim"}><${Untrusted} text=${text} most=${200} />${next}</span>`;
}

const COLUMNS = [
  { key: "name", title: "Sink", sort: "name", width: "13rem", isMain: true, value: (sink) => sink.name,
    render: (sink) => html`<a href=${linkToSink(sink.name)}><${Untrusted} text=${sink.name} most=${80} /></a>` },
  { key: "status", title: "State", sort: "status", width: "8rem", value: (sink) => Object.keys(STATES).indexOf(sink.status),
    render: (sink) => html`<${SinkState} status=${sink.status} />` },
  { key: "lag", title: "Lag", sort: "lag", align: "end", width: "6rem", hint: "Events in the log after the sink's cursor", value: (sink) => sink.lag,
    render: (sink) => short(sink.lag) },
  { key: "behind", title: "Behind", sort: "behind", align: "end", width: "6rem", from: "tablet", hint: "The age of the oldest event that the sink does not have",
    value: (sink) => sink.lag_seconds, render: behind },
  { key: "rate", title: "Rate", sort: "rate", align: "end", width: "6rem", from: "tablet", hint: "Delivered events, averaged over a minute",
    value: (sink) => sink.events_per_second, render: (sink) => perSecond(sink.events_per_second) },
  { key: "cursor", title: "Cursor", sort: "cursor", align: "end", width: "8rem", from: "tablet", hint: "The sink has every event up to this sequence",
    value: (sink) => sink.cursor, render: (sink) => count(sink.cursor) },
  { key: "letters", title: "Dead letters", sort: "letters", align: "end", width: "7.5rem", from: "tablet", hint: "Events that the sink has rejected",
    value: (sink) => sink.dead_letters,
    render: (sink) => (sink.dead_letters ? html`<span class="bad-text">${count(sink.dead_letters)}</span>` : "0") },
  { key: "reason", title: "Last error", from: "desktop", render: (sink) => html`<${Reason} sink=${sink} />` },
];

function List({ data, error, reload, selected }) {
  const sinks = data?.downstreams ?? [];
  return html`<${Panel} title="Sinks" note=${data && `${count(sinks.length)}, the log is at ${count(data.head)}`}>
    ${error && html`<${Problem} error=${error} retry=${reload} />`}
    ${!data ? !error && html`<${Loading} what="the sinks" />`
      : sinks.length
        ? html`<${Table} label="Sinks" columns=${COLUMNS} rows=${sinks} keyOf=${(sink) => sink.name} selected=${selected} />`
        : html`<${Empty} title="There are no sinks">
            The gateway pushes events to services that [[output.tcp]] and [[output.rest]] name in its configuration.
          <//>`}
  <//>`;
}

function View({ params, go }) {
  const { data, error, reload } = usePolled((signal) => get("api/downstreams", { signal }), REFRESH_SECONDS);
  const close = () => go({ ...params, sink: null });
  return html`<div class="split wide ${params.sink ? "open" : ""}">
    <div class="stack">
      <${List} data=${data} error=${error} reload=${reload} selected=${params.sink} />
      <${Consumers} />
    </div>
    ${params.sink && html`<${Sink} name=${params.sink} key=${params.sink} onClose=${close} onChanged=${reload} />`}
  </div>`;
}

export const sinks = { path: "sinks", title: "Sinks & consumers", icon: "sinks", View };
