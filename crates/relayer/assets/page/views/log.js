// The log: a live tail, one event with its provenance, and the events that were refused lately.

import { Badge, Button, Empty, Problem, SearchField, Untrusted, At } from "../components.js";
import { abbreviated, clock, count, short } from "../format.js";
import { encoded, eventId, publicKey } from "../nip19.js";
import { html, useMemo, useRef, useState } from "../ui.js";
import { Event, linkToEvent } from "./event.js";
import { Refusals } from "./refusals.js";
import { DRAWN_A_SECOND, KEPT, useTail } from "./tail.js";

/** Converts typed kinds to the API's parameter, or returns what is wrong with them. */
function kindsOf(text = "") {
  const kinds = text.split(/[\s,]+/).filter(Boolean);
  const wrong = kinds.find((kind) => !/^\d{1,5}$/.test(kind) || Number(kind) > 65_535);
  return wrong === undefined ? { value: kinds.join(",") } : { problem: `“${wrong}” is not a kind: kinds are numbers from 0 to 65535, such as 1, 7` };
}

/** Converts typed authors to the API's parameter, or returns what is wrong with them. */
function authorsOf(text = "") {
  const authors = text.split(/[\s,]+/).filter(Boolean).map((author) => [author, publicKey(author)]);
  const wrong = authors.find(([, key]) => !key);
  return wrong ? { problem: `“${wrong[0]}” is not a public key: use npub1… or 64 hex digits` } : { value: authors.map(([, key]) => key).join(",") };
}

/** Whether an event contains a text, in its content, tags, id or author. */
const contains = (text) => ({ event }) =>
  [event.content, event.id, event.pubkey].some((field) => field.toLowerCase().includes(text))
    || event.tags.some((tag) => tag.some((field) => field.toLowerCase().includes(text)));

const STATES = {
  connecting: ["busy", "Connecting"],
  open: ["ok", "Following"],
  lost: ["warn", "Connecting again"],
  failed: ["bad", "Failed"],
};

function State({ tail, isPaused }) {
  const [kind, name] = isPaused ? ["idle", "Paused"] : STATES[tail.state];
  return html`<div class="state-line" role="status"><${Badge} kind=${kind}>${name}<//>
    ${tail.reason && html`<span class="dim"><${Untrusted} text=${tail.reason} most=${100} /></span>`}</div>`;
}

/** A text about the events that the rows do not show. */
function Missing({ tail, isPaused }) {
  if (tail.isSkipping) {
    return html`<p class="remark warn-text">Events arrive faster than ${DRAWN_A_SECOND} a second, which
      is as many as this page draws: ${count(tail.skipped)} were left out. A narrower filter shows all that match.</p>`;
  }
  if (tail.skipped) return html`<p class="remark dim">${count(tail.skipped)} events were left out, because they arrived too fast to be drawn.</p>`;
  return isPaused ? null : html`<p class="remark dim">The newest ${count(KEPT)} events are kept here. The log has more.</p>`;
}

function Row({ envelope, selected }) {
  const { seq, received_at: receivedAt, relay, event } = envelope;
  return html`<tr class=${event.id === selected ? "selected" : ""} data-event=${event.id}>
    <td><${At} ms=${receivedAt} /></td>
    <td class="end"><a href=${linkToEvent(event.id)}>${count(seq)}</a></td>
    <td class="end">${event.kind}</td>
    <td class="wide"><${Untrusted} text=${event.content || "(empty)"} most=${160} /></td>
    <td class="mono from-tablet" title=${event.pubkey}>${abbreviated(encoded("npub", event.pubkey), 10)}</td>
    <td class="from-desktop"><${Untrusted} text=${relay} most=${60} /></td>
  </tr>`;
}

/** A row is made once: an element that stays the same is not compared again. */
function rowOf(entry, selected) {
  const isSelected = entry.envelope?.event.id === selected;
  if (entry.row && entry.isSelected === isSelected) return entry.row;
  entry.isSelected = isSelected;
  entry.row = entry.gap
    ? html`<tr key=${entry.key} class="gap"><td colspan="6">Not connected from ${clock(entry.gap.from)} to ${clock(entry.gap.until)}:
        events of this time are in the log, but not here.</td></tr>`
    : html`<${Row} key=${entry.key} envelope=${entry.envelope} selected=${selected} />`;
  return entry.row;
}

function Rows({ rows, selected, onOpen }) {
  const clicked = (event) => {
    const id = event.target.closest("[data-event]")?.dataset.event;
    if (!id || event.target.closest("button") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    onOpen(id);
  };
  return html`<div class="table-box rows" role="region" aria-label="Live tail" tabindex="0"><table class="table" onClick=${clicked}>
    <thead><tr><th scope="col" style=${{ width: "10rem" }}>Received</th><th scope="col" class="end" style=${{ width: "6.5rem" }}>Sequence</th>
      <th scope="col" class="end" style=${{ width: "5rem" }}>Kind</th><th scope="col" class="wide">Content</th>
      <th scope="col" class="from-tablet" style=${{ width: "13.5rem" }}>Author</th>
      <th scope="col" class="from-desktop" style=${{ width: "16rem" }}>First from</th></tr></thead>
    <tbody>${rows.map((entry) => rowOf(entry, selected))}</tbody>
  </table></div>`;
}

function Tail({ params, set, onOpen }) {
  const [isPaused, setPaused] = useState(false);
  const [kinds, authors] = [kindsOf(params.kinds), authorsOf(params.authors)];
  const text = (params.text ?? "").toLowerCase();
  const matches = useMemo(() => (text ? contains(text) : null), [text]);
  // While something is wrong, the tail stays as it was.
  const good = useRef({});
  if (!kinds.problem && !authors.problem) good.current = { kinds: kinds.value, authors: authors.value };
  const tail = useTail({ ...good.current, matches }, isPaused);
  const filter = (changes) => {
    setPaused(false);
    set(changes);
  };
  const problem = kinds.problem ?? authors.problem;
  const isFiltered = Boolean(params.kinds || params.authors || text);
  const button = isPaused
    ? html`<${Button} icon="play" kind="primary" onClick=${() => setPaused(false)}>Continue${tail.waiting > 0 && ` (${short(tail.waiting)} new)`}<//>`
    : html`<${Button} icon="pause" onClick=${() => setPaused(true)}>Pause<//>`;
  return html`<div class="filters">
      <${SearchField} label="Kinds, such as 1, 7" value=${params.kinds} onChange=${(kinds) => filter({ kinds })} />
      <${SearchField} label="Authors: npub1… or hex" value=${params.authors} onChange=${(authors) => filter({ authors })} />
      <${SearchField} label="Text in the event" value=${params.text} onChange=${(text) => filter({ text })} />
      <div class="follow"><${State} tail=${tail} isPaused=${isPaused} />
        <span class="dim rate">${short(Math.round(10 * tail.rate) / 10)} events/s</span><span class="spring"></span>${button}</div>
    </div>
    ${problem && html`<${Problem} error=${{ message: problem }} />`}
    ${tail.error && html`<${Problem} error=${tail.error} />`}
    <${Missing} tail=${tail} isPaused=${isPaused} />
    ${tail.rows.length ? html`<${Rows} rows=${tail.rows} selected=${params.event} onOpen=${onOpen} />`
      : tail.error ? null
      : isFiltered ? html`<${Empty} title="No event matches yet">Events that match appear here as they arrive.<//>`
      : html`<${Empty} title="No events yet">They appear here as relays deliver them.<//>`}`;
}

/** A field for the id of an event. */
function Find({ onFind }) {
  const [problem, setProblem] = useState(null);
  const submitted = (event) => {
    event.preventDefault();
    const field = event.currentTarget.elements.namedItem("id");
    const id = eventId(field.value);
    setProblem(id ? null : "This is not an event's id: use note1…, nevent1… or 64 hex digits.");
    if (id) onFind(id);
    else field.focus();
  };
  return html`<form class="find" role="search" onSubmit=${submitted}>
    <label class="search"><span class="hidden">Id of an event</span>
      <input name="id" placeholder="Event id: hex, note1…" autocomplete="off" autocapitalize="off" spellcheck=${false}
        aria-invalid=${problem !== null} aria-describedby="find-problem" /></label>
    <button type="submit" class="button">Find</button>
    <span id="find-problem" class="bad-text" role="alert">${problem}</span>
  </form>`;
}

const PARTS = [["", "Live tail"], ["refusals", "Refusals"]];

function View({ params, go }) {
  const part = params.show === "refusals" ? "refusals" : "";
  const set = (changes) => go({ ...params, ...changes }, { replace: true });
  const open = (event) => go({ ...params, event });
  const link = (show) => `#/log${show && `?${new URLSearchParams({ show })}`}`;
  const id = params.event ? eventId(params.event) : null;
  return html`<div class="split wide ${id ? "open" : ""}">
    <section class="panel" aria-label=${part ? "Refusals" : "Live tail"}>
      <header class="panel-head"><h2 class="hidden">${part ? "Refusals" : "Live tail"}</h2>
        <nav class="parts" aria-label="Parts of the log">${PARTS.map(([show, name]) => html`<a key=${show} class="chip" href=${link(show)}
          aria-current=${part === show ? "page" : undefined}>${name}</a>`)}</nav>
        <span class="spring"></span><${Find} onFind=${open} /></header>
      ${params.event && !id && html`<${Problem} error=${{ message: `“${params.event}” in the address is not the id of an event.` }} />`}
      ${part ? html`<${Refusals} params=${params} set=${set} />` : html`<${Tail} params=${params} set=${set} onOpen=${open} />`}
    </section>
    ${id && html`<${Event} id=${id} key=${id} onClose=${() => go({ ...params, event: null })} />`}
  </div>`;
}

export const log = { path: "log", title: "Log", icon: "log", View };
