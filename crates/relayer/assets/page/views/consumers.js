// The named consumers of /ws: clients whose cursors the gateway keeps.

import { change, get } from "../api.js";
import { Ago, Badge, Button, Empty, Loading, Panel, Problem, SearchField, Untrusted } from "../components.js";
import { attempt, confirm } from "../dialogs.js";
import { count, short } from "../format.js";
import { Table } from "../table.js";
import { html, usePolled, useRef, useState } from "../ui.js";
import { behind, perSecond } from "./sinks.js";

const REFRESH_SECONDS = 5;

/** The maximum number of consumers shown. Those with the most lag are shown. */
const SHOWN_MAX = 200;

/** With more consumers than this, they can be searched. */
const SEARCH_FROM = 10;

const columns = (forget) => [
  { key: "name", title: "Consumer", sort: "name", width: "13rem", isMain: true, value: (one) => one.name,
    render: (one) => html`<${Untrusted} text=${one.name} most=${80} />` },
  { key: "connected", title: "State", sort: "connected", width: "9rem", isMedium: true, value: (one) => Number(one.connected),
    render: (one) => (one.connected ? html`<${Badge} kind="ok">Connected<//>` : html`<${Badge}>Away<//>`) },
  { key: "lag", title: "Lag", sort: "lag", align: "end", width: "6rem", hint: "Events in the log after the consumer's cursor", value: (one) => one.lag,
    render: (one) => short(one.lag) },
  { key: "behind", title: "Behind", sort: "behind", align: "end", width: "6rem", from: "tablet", hint: "The age of the oldest event that the consumer has not acknowledged",
    value: (one) => one.lag_seconds, render: behind },
  { key: "rate", title: "Rate", sort: "rate", align: "end", width: "6rem", from: "tablet", hint: "Acknowledged sequences a second, since this page's last request",
    value: (one) => one.rate, render: (one) => perSecond(one.rate) },
  { key: "cursor", title: "Cursor", sort: "cursor", align: "end", width: "8rem", from: "tablet", hint: "The last acknowledged sequence",
    value: (one) => one.cursor, render: (one) => count(one.cursor) },
  { key: "unused", title: "Away since", sort: "unused", align: "end", width: "8.5rem", from: "tablet", value: (one) => one.unused_since,
    render: (one) => (one.unused_since === null ? "–" : html`<${Ago} ms=${one.unused_since} units=${1} />`) },
  { key: "forget", title: html`<span class="hidden">Forget</span>`, align: "end", width: "6rem",
    render: (one) => (one.connected ? null : html`<button type="button" class="link" aria-label="Forget ${one.name}" onClick=${() => forget(one)}>Forget</button>`) },
];

/** Adds each consumer's rate: the sequences a second that it acknowledged since the last answer. */
function withRates(consumers, before, now) {
  const seconds = before ? (now - before.at) / 1000 : 0;
  return consumers.map((one) => {
    const earlier = before?.cursors.get(one.name);
    const isKnown = seconds > 0 && earlier !== undefined && one.cursor >= earlier;
    return { ...one, rate: isKnown ? (one.cursor - earlier) / seconds : null };
  });
}

export function Consumers() {
  const before = useRef(null);
  const [search, setSearch] = useState("");
  const { data, error, reload } = usePolled(async (signal) => {
    const { consumers } = await get("api/consumers", { signal });
    const at = performance.now();
    const rated = withRates(consumers, before.current, at);
    before.current = { at, cursors: new Map(consumers.map(({ name, cursor }) => [name, cursor])) };
    return rated;
  }, REFRESH_SECONDS);

  const forget = async ({ name, lag }) => {
    const isSure = await confirm({
      title: "Forget this consumer?", action: "Forget", kind: "danger",
      text: html`<p>The cursor of <strong><${Untrusted} text=${name} /></strong> is deleted. It has not acknowledged
        the last ${count(lag)} events. The next client with this name is a new consumer.</p>`,
    });
    if (!isSure) return;
    if (await attempt(() => change("DELETE", `api/consumers/${encodeURIComponent(name)}`), `Forgot ${name}.`)) reload();
  };

  const all = data ?? [];
  const found = all.filter(({ name }) => name.toLowerCase().includes(search.toLowerCase()));
  const shown = found.length > SHOWN_MAX ? [...found].sort((a, b) => b.lag - a.lag).slice(0, SHOWN_MAX) : found;
  return html`<${Panel} title="Named consumers" note=${data && count(all.length)}>
    ${all.length > SEARCH_FROM && html`<div class="filters">
      <${SearchField} label="Part of the name" value=${search} onChange=${setSearch} />
      ${shown.length < found.length && html`<p class="dim">The ${count(shown.length)} that are furthest behind, of ${count(found.length)}.</p>`}
    </div>`}
    ${error && html`<${Problem} error=${error} retry=${reload} />`}
    ${!data ? !error && html`<${Loading} what="the consumers" />`
      : !all.length ? html`<${Empty} title="There are no named consumers">
          A client of /ws becomes one with ?consumer=NAME. The gateway then keeps its cursor.
        <//>`
      : !shown.length ? html`<${Empty} title="No consumer matches">Change the text in the field above.<//>`
      : html`<${Table} label="Named consumers" columns=${columns(forget)} rows=${shown} keyOf=${(one) => one.name} initial=${{ sort: "name" }} />`}
  <//>`;
}
