// The state of the gateway at a glance: warnings, figures, and plots over the last hour.

import { get, stream } from "../api.js";
import { Ago, Badge, Icon, Loading, Problem, Stat, Untrusted } from "../components.js";
import { bytes, count, duration, milliseconds, percent, relative, short, time } from "../format.js";
import { Plot } from "../plot.js";
import { html, useEffect, useState } from "../ui.js";
import { linkToSink } from "./sinks.js";

const STATES = { healthy: ["ok", "Healthy"], degraded: ["warn", "Needs attention"], not_ready: ["bad", "Does not accept events"] };

/** Where a warning's subject is shown. */
function linkOf({ code, subject }) {
  if (/^(sink_|dead_letters)/.test(code)) return subject ? linkToSink(subject) : "#/sinks";
  if (/^(registry|fanout)_/.test(code)) return "#/fanout";
  if (subject && code.startsWith("relay")) return `#/relays?${new URLSearchParams({ relay: subject })}`;
  const filter = { relays_silent: { has: "silent" }, relays_with_gaps: { has: "gaps" }, relays_quarantined: { state: "quarantined" },
    relays_refused: { state: "refused" }, relays_need_authentication: { state: "needs_authentication" },
    relays_disconnected: { state: "connecting,backing_off" }, no_relay_connected: {} }[code];
  return filter ? `#/relays?${new URLSearchParams(filter)}` : null;
}

function Warnings({ overview }) {
  const { state, warnings, uptime_seconds: uptime, version } = overview;
  const [kind, name] = STATES[state] ?? ["idle", state];
  return html`<section class="panel health" aria-label="State and warnings">
    <header class="panel-head"><h2 role="status"><${Badge} kind=${kind}>${name}<//></h2>
      <span class="dim">up for ${duration(uptime)}</span><span class="spring"></span><span class="dim">version ${version}</span></header>
    ${warnings.length > 0 && html`<ul class="warnings">${warnings.map((warning) => {
      const link = linkOf(warning);
      const isProblem = warning.severity === "problem";
      return html`<li key=${`${warning.code} ${warning.subject}`} class=${isProblem ? "problem-line" : "note-line"}>
        <${Icon} name="warning" /><span class="hidden">${isProblem ? "Problem: " : "Note: "}</span>
        <span><${Untrusted} text=${warning.message} most=${200} /></span>${link && html` <a href=${link}>Show</a>`}</li>`;
    })}</ul>`}
  </section>`;
}

const known = (value) => value !== null && value !== undefined;

/** A latency as its median and its 99th percentile. */
function Latency({ label, latency }) {
  if (!latency.samples) return html`<${Stat} label=${label} value="–" note="no events just now" />`;
  return html`<${Stat} label=${label} value=${milliseconds(latency.p50_ms)} unit="p50" note=${`p99 ${milliseconds(latency.p99_ms)}`} />`;
}

function Figures({ overview }) {
  const { rates, latency, log, memory, disk, relays, sinks, clients, fanout, queue } = overview;
  const stored = Math.max(0, log.head - log.floor + 1);
  const sinksAway = sinks.states.parked + sinks.states.retrying;
  return html`<dl class="stats rates">
      <${Stat} label="Frames" value=${short(rates.frames)} unit="/s" note="messages from relays" />
      <${Stat} label="New" value=${short(rates.new)} unit="/s" note="events admitted" />
      <${Stat} label="Duplicates" value=${short(rates.duplicates)} unit="/s" note="known already" />
      <${Stat} label="Refused" value=${short(rates.refused)} unit="/s" note="forged, malformed, filtered" />
      <${Stat} label="Delivered" value=${short(rates.delivered)} unit="/s" note="to sinks and clients" />
    </dl>
    <dl class="stats">
      <${Latency} label="Latency to commit" latency=${latency.commit} />
      <${Latency} label="Latency to clients" latency=${latency.delivery} />
      <${Stat} label="Head" value=${count(log.head)} note="newest sequence" />
      <${Stat} label="Floor" value=${count(log.floor)} note=${`${short(stored)} events stored`} />
      <${Stat} label="Memory" value=${bytes(memory.resident_bytes)}
        note=${known(memory.limit_bytes) && known(memory.resident_bytes) ? `${percent(memory.resident_bytes / memory.limit_bytes)} of ${bytes(memory.limit_bytes)}` : "resident"} />
      <${Stat} label="Disk" value=${bytes(disk.log_bytes)} kind=${known(disk.free_bytes) && disk.free_bytes < disk.low_bytes ? "warn" : ""}
        note=${known(disk.free_bytes) ? `${bytes(disk.free_bytes)} free` : "used by the log"} />
      <${Stat} label="Relays" value=${count(relays.connected)} note=${`connected of ${count(relays.total)}`} />
      <${Stat} label="Sinks" value=${count(sinks.total)} kind=${sinksAway ? "warn" : ""}
        note=${sinksAway ? `${count(sinksAway)} not delivering` : `${count(sinks.dead_letters)} dead letters`} />
      <${Stat} label="Clients" value=${count(clients.connected)} note=${`${count(clients.consumers)} named consumers`} />
      ${fanout.enabled
        ? html`<${Stat} label="Followers" value=${count(fanout.clients)} note=${`connected; ${count(fanout.bots)} bots, ${count(fanout.follows)} follows`} />`
        : html`<${Stat} label="In the queue" value=${count(queue.events)} note=${`events, ${bytes(queue.bytes)}`} />`}
    </dl>`;
}

const rate = (value) => `${short(value)} /s`;

function Plots({ history }) {
  const series = (list) => list.map(([label, column, variable, dash]) => ({ label, variable, dash, values: history[column] }));
  const plot = (title, list, format) => html`<${Plot} key=${title} title=${title} time=${history.time} series=${series(list)} format=${format} />`;
  return html`<div class="plots">
    ${plot("Messages from relays", [["Frames", "frames", "--plot-1"], ["Duplicates", "duplicates", "--plot-2"]], rate)}
    ${plot("Events", [["New", "new", "--plot-1"], ["Refused", "refused", "--plot-4"]], rate)}
    ${plot("Delivered to sinks and clients", [["Delivered", "delivered", "--plot-2"]], rate)}
    ${plot("Latency from the relay's frame", [
      ["commit p50", "commit_p50_ms", "--plot-1", [4, 3]], ["commit p99", "commit_p99_ms", "--plot-1"],
      ["clients p50", "delivery_p50_ms", "--plot-3", [4, 3]], ["clients p99", "delivery_p99_ms", "--plot-3"],
    ], milliseconds)}
    ${plot("Memory", [["Resident", "memory_bytes", "--plot-1"]], bytes)}
    ${plot("Connections", [["Relays", "relays_connected", "--plot-2"], ["Clients", "clients", "--plot-3"]], short)}
  </div>`;
}

/** The history with one more point, or null if points are missing in between. */
function appended(history, point) {
  const { interval_seconds: interval, points_max: most } = history;
  const newest = history.time.at(-1);
  if (newest !== undefined && point.time <= newest) return history;
  if (newest !== undefined && point.time - newest > 1.5 * interval) return null;
  const next = { ...history };
  for (const [column, values] of Object.entries(history)) {
    if (Array.isArray(values)) next[column] = [...values, point[column] ?? null].slice(-most);
  }
  return next;
}

function View() {
  const [overview, setOverview] = useState(null);
  const [history, setHistory] = useState(null);
  const [isLost, setLost] = useState(false);
  const [error, setError] = useState(null);

  useEffect(() => {
    const stopping = new AbortController();
    const { signal } = stopping;
    const load = async (path, set) => {
      try {
        const answer = await get(path, { signal });
        if (signal.aborted) return;
        set(answer);
        setError(null);
      } catch (error) {
        if (!signal.aborted) setError(error);
      }
    };
    const loadHistory = () => load("api/overview/history", setHistory);
    let close = () => {};
    // The first answer comes by an ordinary request, which asks for a token if one is needed.
    load("api/overview", setOverview).then(() => {
      if (signal.aborted) return;
      close = stream("api/overview/stream", {
        events: {
          overview: setOverview,
          point: (point) => setHistory((before) => {
            const next = before && appended(before, point);
            if (!next) loadHistory();
            return next ?? before;
          }),
        },
        onState(state) {
          setLost(state === "lost");
          if (state === "open") loadHistory();
          if (state === "lost") load("api/overview", setOverview);
        },
      });
    });
    return () => {
      stopping.abort();
      close();
    };
  }, []);

  if (!overview) return error ? html`<${Problem} error=${error} />` : html`<${Loading} what="the overview" />`;
  return html`<div class="overview">
    ${error && html`<${Problem} error=${error} />`}
    ${isLost && !error && html`<p class="dim" role="status">The live updates were interrupted; these figures are from <${Ago} ms=${overview.at} />.</p>`}
    <${Warnings} overview=${overview} />
    <${Figures} overview=${overview} />
    ${history ? html`<${Plots} history=${history} />` : html`<${Loading} what="the last hour" />`}
    <p class="dim footnote">Started ${time(overview.started_at)} (${relative(overview.started_at)}). Figures cover the last ${duration(overview.interval_seconds)}. Log ${overview.log.id}.</p>
  </div>`;
}

export const overview = { path: "overview", title: "Overview", icon: "overview", View };
