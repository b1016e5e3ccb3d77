// Events that were refused lately, with the reason.

import { get } from "../api.js";
import { At, Empty, Loading, Problem, SearchField, Untrusted } from "../components.js";
import { abbreviated, count, time } from "../format.js";
import { Table } from "../table.js";
import { html, usePolled, useRef } from "../ui.js";

const REFRESH_SECONDS = 5;
const SHOWN_MAX = 200;

const words = (reason) => reason.replaceAll("_", " ");

/** The first relay that sent refused copies, and the number of other relays. */
const senders = ({ relays }) => html`<${Untrusted} text=${relays[0] ?? "unknown"} most=${100} />${relays.length > 1 && ` and ${count(relays.length - 1)} more`}`;

/** A refusal in two lines. */
export function Refusal({ refusal }) {
  return html`<strong>${words(refusal.reason)}</strong> <span class="dim">${refusal.times > 1 ? `${count(refusal.times)} times, last ` : ""}<${At}
      ms=${refusal.last_at} /></span>
    <p><${Untrusted} text=${refusal.why} most=${300} /></p>
    <p class="dim">from ${senders(refusal)}</p>`;
}

const columns = (link) => [
  { key: "last", title: "Last", sort: "last", width: "10.5rem", first: "desc", value: (one) => one.last_at, render: (one) => html`<${At} ms=${one.last_at} />` },
  { key: "id", title: "Claimed id", width: "12rem", from: "tablet",
    render: (one) => html`<a class="mono" href=${link(one.id)}>${abbreviated(one.id)}</a>` },
  { key: "reason", title: "Reason", sort: "reason", width: "14rem", isMain: true, value: (one) => one.reason,
    render: (one) => html`<a href=${link(one.id)} title=${one.why}>${words(one.reason)}</a>` },
  { key: "times", title: "Times", sort: "times", align: "end", width: "5.5rem", hint: "How many copies were refused for this reason",
    value: (one) => one.times, render: (one) => count(one.times) },
  { key: "relays", title: "Relays", from: "tablet", render: senders },
];

export function Refusals({ params, set }) {
  const { relay, reason } = params;
  const { data, error, reload } = usePolled((signal) => get("api/refusals", { params: { relay, reason, limit: SHOWN_MAX }, signal }), REFRESH_SECONDS, [relay, reason]);
  // The reasons seen since the view was opened. An answer for one reason does not list the others.
  const reasons = useRef(new Set());
  for (const refusal of data?.refusals ?? []) reasons.current.add(refusal.reason);
  if (reason) reasons.current.add(reason);
  const refusals = data?.refusals ?? [];
  const isFiltered = relay || reason;
  const link = (id) => `#/log?${new URLSearchParams({ ...params, event: id })}`;
  return html`<div class="filters">
      <label class="select"><span class="hidden">Reason</span><select value=${reason ?? ""} onChange=${(event) => set({ reason: event.currentTarget.value })}>
        <option value="">All reasons</option>
        ${[...reasons.current].sort().map((one) => html`<option key=${one} value=${one}>${words(one)}</option>`)}
      </select></label>
      <${SearchField} label="Relay, such as wss://…" value=${relay} onChange=${(relay) => set({ relay })} />
    </div>
    ${error && html`<${Problem} error=${error} retry=${reload} />`}
    ${data && html`<p class="remark dim">Recorded in memory since ${time(data.since)}.
      ${data.forgotten > 0 && ` ${count(data.forgotten)} older ones were forgotten; all since ${time(data.complete_since)} are here.`}
      ${refusals.length === SHOWN_MAX && ` The newest ${SHOWN_MAX} are shown.`}</p>`}
    ${!data ? !error && html`<${Loading} what="the refusals" />`
      : refusals.length
        ? html`<${Table} label="Refused events" columns=${columns(link)} rows=${refusals} keyOf=${(one) => `${one.id} ${one.reason}`} />`
        : isFiltered ? html`<${Empty} title="No refusal matches">Change the reason or the relay.<//>`
        : html`<${Empty} title="Nothing was refused">Events appear here when they are forged, malformed, or excluded by [filters].<//>`}`;
}
