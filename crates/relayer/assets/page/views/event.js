// An event by its id: its content, the relays that sent it, and the sinks and consumers that
// received it.

import { get } from "../api.js";
import { Ago, At, Badge, Facts, IconButton, Loading, Problem, Untrusted } from "../components.js";
import { abbreviated, count, duration, milliseconds, time } from "../format.js";
import { encoded } from "../nip19.js";
import { html, useEffect, usePolled, useRef } from "../ui.js";
import { Refusal } from "./refusals.js";
import { linkToSink, SinkState } from "./sinks.js";

const REFRESH_SECONDS = 5;

/** How many tags, sinks and consumers of an event are drawn. */
const TAGS_MAX = 50;
const RECEIVERS_MAX = 100;

export const linkToEvent = (id) => `#/log?${new URLSearchParams({ event: id })}`;

const linkToRelay = (url) => `#/relays?${new URLSearchParams({ relay: url })}`;

/** The seven fields of an event. Its author chose all of them. */
export function EventContent({ event }) {
  const more = event.tags.length - TAGS_MAX;
  return html`<${Facts} rows=${[
      ["Kind", event.kind],
      ["Author", html`<span class="mono">${encoded("npub", event.pubkey)}</span>`],
      ["Dated by its author", time(1000 * event.created_at)],
    ]} />
    <h4>Content</h4>
    ${event.content === "" ? html`<p class="dim">Empty.</p>` : html`<p class="quote"><${Untrusted} text=${event.content} most=${600} /></p>`}
    <h4>Tags</h4>
    ${event.tags.length === 0 ? html`<p class="dim">None.</p>`
      : html`<ul class="event-tags">${event.tags.slice(0, TAGS_MAX).map((tag, at) => html`<li key=${at} class="mono">
          <${Untrusted} text=${JSON.stringify(tag)} most=${200} /></li>`)}</ul>`}
    ${more > 0 && html`<p class="dim">and ${count(more)} more</p>`}`;
}

const STATES = {
  stored: ["ok", "Stored", "It is in the log."],
  trimmed: ["idle", "Deleted", "It was in the log, and retention has deleted it."],
  in_flight: ["busy", "Not committed yet", "It was verified, and waits until it can be stored."],
  not_stored: ["warn", "Not stored", `Copies that claimed this id were refused. A forger can cause this with any id, so it does not
    mean that the genuine event was refused.`],
};

function State({ trace }) {
  const [kind, name, text] = STATES[trace.state] ?? ["idle", trace.state, ""];
  return html`<div class="state-line"><${Badge} kind=${kind}>${name}<//>
      ${trace.seq !== null && html`<span class="dim">sequence ${count(trace.seq)}</span>`}</div>
    <p class="dim">${text}</p>`;
}

const COPIES_UNKNOWN = {
  not_sampled: "not measured: one id in 32 is",
  not_recent: "no longer known",
  not_stored: null,
};

/** How late the copies were, in words. */
function copies({ copies, copies_unknown: unknown }) {
  if (!copies) return COPIES_UNKNOWN[unknown] ?? null;
  if (!copies.count) return "none within a minute";
  return `${count(copies.count)} within a minute`;
}

function Origin({ trace, event }) {
  if (trace.received_at === null) return null;
  const late = event && (trace.received_at - 1000 * event.created_at) / 1000;
  return html`<h3>Where it came from</h3><${Facts} rows=${[
    ["First from", html`<a href=${linkToRelay(trace.relay)}><${Untrusted} text=${trace.relay} /></a>`],
    ["Received", html`${time(trace.received_at)}.${String(trace.received_at % 1000).padStart(3, "0")} (<${Ago} ms=${trace.received_at} />)`],
    ["Later than its date", event && (late < 0 ? `dated ${duration(-late)} ahead` : duration(Math.round(10 * late) / 10))],
    ["Copies", copies(trace)],
    ["Late on average", trace.copies?.count ? milliseconds(trace.copies.mean_ms) : null],
    ["The last copy was late by", trace.copies?.count ? milliseconds(trace.copies.last_ms) : null],
  ]} />`;
}

const DELIVERIES = {
  passed: ["ok", "Passed"],
  waiting: ["busy", "Not yet"],
  not_selected: ["idle", "Not selected"],
  dead_letter: ["bad", "Dead letter"],
  lost: ["bad", "Lost"],
};

function Delivery({ delivery }) {
  const [kind, name] = DELIVERIES[delivery] ?? ["idle", delivery];
  return html`<${Badge} kind=${kind}>${name}<//>`;
}

function Receivers({ title, receivers, none, children }) {
  const more = receivers.length - RECEIVERS_MAX;
  return html`<h4>${title}</h4>
    ${receivers.length === 0 ? html`<p class="dim">${none}</p>` : html`<ul class="receivers">${receivers.slice(0, RECEIVERS_MAX).map(children)}</ul>`}
    ${more > 0 && html`<p class="dim">and ${count(more)} more</p>`}`;
}

const SinkLine = (sink) => html`<li key=${sink.name}>
  <a href=${linkToSink(sink.name)}><${Untrusted} text=${sink.name} most=${80} /></a>
  ${sink.delivery === "waiting" && html`<span class="dim">at ${count(sink.cursor)}, <${SinkState} status=${sink.status} /></span>`}
  <span class="spring"></span><${Delivery} delivery=${sink.delivery} />
  ${sink.dead_letter && html`<p class="quote">Rejected <${At} ms=${sink.dead_letter.refused_at} />: <${Untrusted} text=${sink.dead_letter.reason} />
    ${sink.dead_letter.replaying && " (waits for its replay)"}</p>`}
</li>`;

const ConsumerLine = (consumer) => html`<li key=${consumer.name}>
  <${Untrusted} text=${consumer.name} most=${80} />
  ${consumer.delivery === "waiting" && html`<span class="dim">at ${count(consumer.cursor)}, ${consumer.connected ? "connected" : "away"}</span>`}
  <span class="spring"></span><${Delivery} delivery=${consumer.delivery} />
</li>`;

function Trace({ trace, envelope }) {
  const wasStored = trace.state === "stored" || trace.state === "trimmed";
  return html`<${State} trace=${trace} />
    <${Origin} trace=${trace} event=${envelope?.event} />
    ${wasStored && html`<h3>Who has received it</h3>
      <${Receivers} title="Sinks" receivers=${trace.sinks} none="There are no sinks.">${SinkLine}<//>
      <${Receivers} title="Named consumers" receivers=${trace.consumers} none="There are no named consumers.">${ConsumerLine}<//>`}
    ${trace.refusals.length > 0 && html`<h3>Copies that were refused lately</h3>
      <ul class="refusals">${trace.refusals.map((refusal) => html`<li key=${refusal.reason}><${Refusal} refusal=${refusal} /></li>`)}</ul>`}
    ${envelope && html`<h3>The event</h3><${EventContent} event=${envelope.event} />`}`;
}

export function Event({ id, onClose }) {
  const { data: trace, error, reload } = usePolled((signal) => get(`api/events/${id}/trace`, { signal }), REFRESH_SECONDS, [id]);
  const isStored = trace?.state === "stored";
  const { data: envelope } = usePolled((signal) => (isStored ? get(`api/events/${id}`, { signal }) : null), 0, [id, isStored]);
  const heading = useRef(null);
  useEffect(() => heading.current.focus(), []);
  const pressed = (event) => {
    if (event.key === "Escape") onClose();
  };
  return html`<aside class="panel side" aria-label="Details of an event" onKeyDown=${pressed}>
    <header class="panel-head"><h2 tabindex="-1" ref=${heading}>Event <span class="mono">${abbreviated(id)}</span></h2><span class="spring"></span>
      <${IconButton} icon="close" label="Close the details" onClick=${onClose} /></header>
    <div class="side-body">
      ${error && html`<${Problem} error=${error} retry=${reload} />`}
      ${trace ? html`<${Trace} trace=${trace} envelope=${envelope} />` : !error && html`<${Loading} what="the event" />`}
      <h3>Its id</h3>
      <p class="mono id">${id}</p><p class="mono id">${encoded("note", id)}</p>
    </div>
  </aside>`;
}
