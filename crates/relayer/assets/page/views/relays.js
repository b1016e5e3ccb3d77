// All relays: a list of any length, sorted and filtered by the gateway, and the details of one.

import { change, get } from "../api.js";
import { Badge, Button, Chips, Empty, Panel, Problem, SearchField, Untrusted } from "../components.js";
import { attempt, prompt } from "../dialogs.js";
import { count, duration, milliseconds, percent, relative, short } from "../format.js";
import { LongTable } from "../table.js";
import { html, useEffect, useLatest, useMemo, useRef, useState } from "../ui.js";
import { Relay } from "./relay.js";

/** The rows that one request asks for. */
const PAGE = 100;

/** How long the list must stand still before missing rows are asked for. */
const STILL_MS = 60;

/** How often the visible rows are asked for again. */
const REFRESH_SECONDS = 5;

/** The states in the order of the filter: kind of the badge, and name. */
export const STATES = {
  live: ["ok", "Live"],
  backfilling: ["busy", "Backfilling"],
  connecting: ["busy", "Connecting"],
  backing_off: ["warn", "Backing off"],
  needs_authentication: ["warn", "Needs authentication"],
  refused: ["bad", "Refused"],
  quarantined: ["bad", "Quarantined"],
  stopped: ["idle", "Stopped"],
};

export function RelayState({ relay }) {
  const [kind, name] = STATES[relay.status] ?? ["idle", relay.status];
  return relay.silent ? html`<${Badge} kind="warn">Silent<//>` : html`<${Badge} kind=${kind}>${name}<//>`;
}

/** The share of a relay's events that it delivered first; null if it delivered none. */
export const firstShare = ({ first, copies }) => (first + copies ? first / (first + copies) : null);

const TRAITS = [
  { value: "silent", label: "Silent" },
  { value: "gaps", label: "With gaps" },
  { value: "offences", label: "With offences" },
  { value: "rate_limited", label: "Limits our requests" },
];

/** The reason for a state, or how long the state has lasted. */
function Reason({ relay }) {
  if (relay.reason) return html`<${Untrusted} text=${relay.reason} most=${200} />`;
  return relay.since_ms ? html`<span class="dim">for ${duration(Math.max(0, Math.round((Date.now() - relay.since_ms) / 1000)))}</span>` : null;
}

const columns = (link) => [
  { key: "url", title: "Relay", sort: "url", width: "18rem", isMain: true,
    render: (relay) => html`<a href=${link(relay.url)}><${Untrusted} text=${relay.url.replace(/^wss:\/\//, "")} most=${120} /></a>` },
  { key: "status", title: "State", sort: "state", width: "10.5rem", render: (relay) => html`<${RelayState} relay=${relay} />` },
  { key: "reason", title: "Since, or reason", from: "desktop", render: (relay) => html`<${Reason} relay=${relay} />` },
  { key: "events", title: "Events", sort: "events", align: "end", width: "6rem", from: "tablet", hint: "Messages with a requested event",
    render: (relay) => short(relay.events) },
  { key: "share", title: "First", sort: "first_share", align: "end", width: "5.5rem", hint: "The share of the relay's events that it was the first to deliver",
    render: (relay) => percent(firstShare(relay)) },
  { key: "late", title: "Late", sort: "lateness", align: "end", width: "6rem", from: "tablet", hint: "How much later than the first copy the relay's copies arrive, on average",
    render: (relay) => milliseconds(relay.late_ms) },
  { key: "rtt", title: "Ping", sort: "rtt", align: "end", width: "5.5rem", from: "desktop", hint: "The round trip of the last answered ping",
    render: (relay) => milliseconds(relay.rtt_ms) },
  { key: "proven", title: "Proven until", sort: "proven_until", align: "end", width: "7.5rem", from: "tablet", hint: "All of the relay's events up to this time are in the log",
    render: (relay) => (relay.proven_until ? relative(1000 * relay.proven_until, Date.now(), 1) : "–") },
  { key: "gaps", title: "Gaps", sort: "gaps", align: "end", width: "4.5rem", from: "tablet", hint: "Spans of time in which the relay's events are not proven complete",
    render: (relay) => count(relay.gaps) },
  { key: "offences", title: "Offences", sort: "offences", align: "end", width: "6.5rem", from: "tablet", hint: "Forged and malformed messages",
    render: (relay) => (relay.offences ? html`<span class="bad-text">${short(relay.offences)}</span>` : "0") },
];

/** The query that the parameters of the URL ask for. */
const selection = ({ sort, order, state, has, search }) => ({ sort, order, state, has, search });

function List({ params, go }) {
  const [result, setResult] = useState({ total: null, states: {}, pages: new Map(), error: null });
  const visible = useRef({ first: 0, count: PAGE });
  const asked = useMemo(() => selection(params), [params.sort, params.order, params.state, params.has, params.search]);
  const run = useRef(0);
  const loading = useRef(new Set());
  const still = useRef(0);

  const load = useLatest(async (pages, signal, isNew) => {
    const mine = run.current;
    await Promise.all(pages.map(async (page) => {
      loading.current.add(page);
      try {
        const answer = await get("api/relays", { params: { ...asked, limit: PAGE, offset: page * PAGE || undefined }, signal });
        if (mine !== run.current || signal?.aborted) return;
        setResult((before) => {
          // The old rows stay until the first new ones have loaded.
          const kept = isNew ? new Map() : new Map(before.pages);
          kept.set(page, answer.relays);
          return { total: answer.total, states: answer.states, pages: kept, error: null };
        });
      } catch (error) {
        if (mine === run.current && !signal?.aborted) setResult((before) => ({ ...before, error }));
      } finally {
        if (mine === run.current) loading.current.delete(page);
      }
    }));
  });

  /** The pages that contain the visible rows. */
  const needed = () => {
    const { first, count } = visible.current;
    const pages = [];
    for (let page = Math.floor(first / PAGE); page * PAGE < first + Math.max(count, 1); page += 1) pages.push(page);
    return pages;
  };

  useEffect(() => {
    run.current += 1;
    loading.current.clear();
    visible.current = { first: 0, count: 1 };
    const stopping = new AbortController();
    let timer = 0;
    const refresh = async (isNew) => {
      if (!document.hidden) await load.current(needed(), stopping.signal, isNew);
      if (!stopping.signal.aborted) timer = setTimeout(refresh, 1000 * REFRESH_SECONDS, false);
    };
    refresh(true);
    return () => {
      stopping.abort();
      clearTimeout(timer);
      clearTimeout(still.current);
    };
  }, [asked]);

  const loadMissing = useLatest(() => {
    const missing = needed().filter((page) => !result.pages.has(page) && !loading.current.has(page));
    if (result.total !== null && missing.length) load.current(missing);
  });
  const onWindow = (first, count) => {
    visible.current = { first, count };
    clearTimeout(still.current);
    still.current = setTimeout(() => loadMissing.current(), STILL_MS);
  };

  const set = (changes) => go({ ...params, ...changes }, { replace: true });
  const link = (url) => `#/relays?${new URLSearchParams({ ...params, relay: url })}`;
  const add = async () => {
    let added = null;
    const url = await prompt({
      title: "Add a relay", label: "URL", placeholder: "wss://relay.example", action: "Add",
      text: "The gateway connects to it at once, and after each restart.",
      send: async (url) => (added = await change("POST", "api/relays/add", { url })),
    });
    if (!url) return;
    await attempt(async () => added, ({ url, added }) => (added ? `Added ${url}.` : `${url} was in the list already.`));
    run.current += 1;
    loading.current.clear();
    load.current(needed(), undefined, true);
  };

  const { total, states, pages, error } = result;
  const isFiltered = params.state || params.has || params.search;
  const choices = Object.entries(STATES)
    .filter(([state]) => states[state] || params.state?.split(",").includes(state))
    .map(([value, [, label]]) => ({ value, label, note: count(states[value] ?? 0) }));
  const list = (text) => text?.split(",").filter(Boolean) ?? [];
  return html`<${Panel} title="Relays" note=${total === null ? "" : `${count(total)}${isFiltered ? " match" : ""}`}
    actions=${html`<${Button} icon="add" onClick=${add}>Add a relay<//>`}>
    <div class="filters">
      <${SearchField} label="Part of the URL" value=${params.search} onChange=${(search) => set({ search })} />
      <${Chips} label="Only relays in these states" choices=${choices} chosen=${list(params.state)}
        onChange=${(chosen) => set({ state: chosen.join(",") })} />
      <${Chips} label="Only relays with all of these" choices=${TRAITS} chosen=${list(params.has)}
        onChange=${(chosen) => set({ has: chosen.join(",") })} />
    </div>
    ${error && html`<${Problem} error=${error} />`}
    ${total === 0
      ? isFiltered
        ? html`<${Empty} title="No relay matches">Change the filter, or <button type="button" class="link" onClick=${() => set({ state: "", has: "", search: "" })}>show all relays</button>.<//>`
        : html`<${Empty} title="There are no relays yet">Add one here, or name some in the configuration ([relay] bootstrap_relays).<//>`
      : html`<${LongTable} label="Relays" columns=${columns(link)} total=${total ?? 0}
          at=${(index) => pages.get(Math.floor(index / PAGE))?.[index % PAGE]}
          onWindow=${onWindow} keyOf=${(relay) => relay.url} selected=${params.relay} top=${asked}
          sort=${params.sort} order=${params.order ?? "asc"} onSort=${(sort, order) => set({ sort, order })}
          onOpen=${(relay) => go({ ...params, relay: relay.url })} />`}
    ${total === null && !error && html`<p class="loading" role="status">Loading relays …</p>`}
  <//>`;
}

function View({ params, go }) {
  const close = () => go({ ...params, relay: null });
  return html`<div class="split ${params.relay ? "open" : ""}">
    <${List} params=${params} go=${go} />
    ${params.relay && html`<${Relay} url=${params.relay} key=${params.relay} onClose=${close} />`}
  </div>`;
}

export const relays = { path: "relays", title: "Relays", icon: "relays", View };
