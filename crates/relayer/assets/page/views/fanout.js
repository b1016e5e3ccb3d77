// The fan-out: the bots whose signals followers get. Secrets are not part of any answer.

import { change, get } from "../api.js";
import { Ago, Badge, Button, Empty, Loading, Panel, Problem, SearchField, Stat, Untrusted } from "../components.js";
import { askForToken, attempt, confirm } from "../dialogs.js";
import { abbreviated, count } from "../format.js";
import { encoded } from "../nip19.js";
import { heldTokens, keepToken } from "../session.js";
import { LongTable } from "../table.js";
import { html, useMemo, usePolled, useShared, useState } from "../ui.js";
import { linkToEvent } from "./event.js";

const REFRESH_SECONDS = 5;
const BOTS_REFRESH_SECONDS = 10;

/** The number of bots that are loaded at first, and the maximum, which fits in one answer. */
const LOADED = 1_000;
const LOADED_MAX = 10_000;

function Figures({ fanout }) {
  return html`<dl class="stats">
    <${Stat} label="Bots" value=${count(fanout.bots)} note="registered" />
    <${Stat} label="Follows" value=${count(fanout.follows)} note="of all bots" />
    <${Stat} label="Followers" value=${count(fanout.clients)} note="connected now" />
  </dl>`;
}

/** The last signal that the gateway has seen from a bot. */
function Signal({ bot }) {
  const { last_signal: last } = bot;
  if (!last) return html`<span class="dim">none seen</span>`;
  return html`<a href=${linkToEvent(last.id)} title="Sequence ${count(last.seq)}"><${Ago} ms=${last.received_at} units=${1} /></a>`;
}

const columns = (approve, hasPending) => [
  { key: "name", title: "Bot", sort: "name", width: "14rem", isMain: true, value: (bot) => bot.name.toLowerCase(),
    render: (bot) => html`<${Untrusted} text=${bot.name} most=${100} />` },
  { key: "key", title: "Public key", width: "15rem", from: "tablet",
    render: (bot) => html`<span class="mono" title=${bot.bot_pubkey}>${abbreviated(encoded("npub", bot.bot_pubkey), 11)}</span>` },
  { key: "state", title: "State", sort: "state", width: "8.5rem", from: "tablet", value: (bot) => bot.state,
    render: (bot) => (bot.state === "pending" ? html`<${Badge} kind="warn">Pending<//>` : html`<${Badge} kind="ok">Registered<//>`) },
  { key: "followers", title: "Followers", sort: "followers", align: "end", width: "7rem", value: (bot) => bot.followers,
    render: (bot) => count(bot.followers) },
  { key: "signal", title: "Last signal", sort: "signal", align: "end", width: "8rem", isMedium: true, value: (bot) => bot.last_signal?.received_at ?? null,
    hint: "Since the gateway's start, and in about a million events before it", render: (bot) => html`<${Signal} bot=${bot} />` },
  { key: "registered", title: "Registered", sort: "registered", align: "end", width: "8rem", from: "tablet", value: (bot) => bot.registered_at,
    render: (bot) => html`<${Ago} ms=${bot.registered_at} units=${1} />` },
  hasPending && { key: "approve", title: html`<span class="hidden">Approve</span>`, align: "end", width: "6.5rem",
    render: (bot) => bot.state === "pending" && html`<button type="button" class="link" aria-label="Approve ${bot.name}" onClick=${() => approve(bot)}>Approve</button>` },
].filter(Boolean);

/** Unknown values come last, in both directions. */
function sorted(bots, column, order) {
  const known = (bot) => column.value(bot) !== null;
  const way = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  return [...bots].sort((a, b) => {
    if (!known(a) || !known(b)) return known(b) - known(a);
    const direction = way(column.value(a), column.value(b));
    return order === "desc" ? -direction : direction;
  });
}

function Bots({ params, go, onRefused }) {
  const [limit, setLimit] = useState(LOADED);
  const { data, error, reload } = usePolled(async (signal) => {
    try {
      return await get("api/bots", { params: { limit }, use: "admin", signal });
    } catch (error) {
      // The list is not asked for again until someone enters a token.
      if (error.status === 401 || error.status === 403) onRefused(error);
      throw error;
    }
  }, BOTS_REFRESH_SECONDS, [limit]);
  const approve = async ({ bot_pubkey: key, name }) => {
    const isSure = await confirm({
      title: "Approve this bot?", action: "Approve",
      text: html`<p>Followers can then follow <strong><${Untrusted} text=${name} /></strong> and get its signals.</p>`,
    });
    if (isSure && (await attempt(() => change("POST", `api/bots/${key}/approve`), `Approved ${name}.`))) reload();
  };
  const { sort = "signal", order = "desc", search = "" } = params;
  const all = columns(approve, data?.bots.some(({ state }) => state === "pending"));
  const shown = useMemo(() => {
    const found = (data?.bots ?? []).filter(({ name, bot_pubkey: key }) =>
      [name.toLowerCase(), key, encoded("npub", key)].some((text) => text.includes(search.toLowerCase())));
    return sorted(found, all.find((column) => column.sort === sort) ?? all[0], order);
  }, [data, sort, order, search]);
  const set = (changes) => go({ ...params, ...changes }, { replace: true });
  const more = data ? data.total - data.bots.length : 0;
  return html`<${Panel} title="Bots" note=${data && count(data.total)}>
    ${data?.total > 0 && html`<div class="filters">
      <${SearchField} label="Part of the name or key" value=${search} onChange=${(search) => set({ search })} />
      ${more > 0 && html`<p class="dim">${count(data.bots.length)} are loaded, in the order of their keys.
        ${limit < LOADED_MAX && html` <button type="button" class="link" onClick=${() => setLimit(LOADED_MAX)}>Load up to ${count(LOADED_MAX)}</button>`}</p>`}
    </div>`}
    ${error && html`<${Problem} error=${error} retry=${reload} />`}
    ${!data ? !error && html`<${Loading} what="the bots" />`
      : data.total === 0 ? html`<${Empty} title="No bots yet">A bot registers itself, with a proof of its key, at api/bots/register.<//>`
      : shown.length === 0 ? html`<${Empty} title="No bot matches">Change the text in the field above.<//>`
      : html`<${LongTable} label="Bots" columns=${all} total=${shown.length} at=${(index) => shown[index]} onWindow=${() => {}}
          keyOf=${(bot) => bot.bot_pubkey} sort=${sort} order=${order} onSort=${(sort, order) => set({ sort, order })}
          top=${`${sort} ${order} ${search}`} />`}
  <//>`;
}

/** Asks for the admin token only on request: opening a view should not open a dialog. */
function Locked({ reason, onToken }) {
  const enter = async () => {
    const token = await askForToken({ use: "admin" });
    if (!token) return;
    keepToken("admin", token);
    onToken();
  };
  return html`<${Panel} title="Bots"><${Empty} title="The list of bots needs the admin token">
    Who follows whom is for the operator only.${reason && html` <${Untrusted} text=${reason} most=${300} />`}
    <span class="actions centred"><${Button} kind="primary" icon="key" onClick=${enter}>Enter the admin token<//></span>
  <//><//>`;
}

function View({ params, go }) {
  const { data, error, reload } = usePolled((signal) => get("api/overview", { signal }), REFRESH_SECONDS);
  const held = useShared(heldTokens);
  const [refused, setRefused] = useState(null);
  if (error && !data) return html`<${Panel} title="Fan-out"><${Problem} error=${error} retry=${reload} /><//>`;
  if (!data) return html`<${Panel} title="Fan-out"><${Loading} what="the fan-out" /><//>`;
  if (!data.fanout.enabled) {
    return html`<${Panel} title="Fan-out"><${Empty} title="The fan-out is disabled">
      Bots can register, and followers get their signals, if [fanout] enabled is true in the gateway's configuration. It takes effect at
      the next start.
    <//><//>`;
  }
  const warnings = data.warnings.filter(({ code }) => /^(registry|fanout)_/.test(code));
  return html`<div class="fanout">
    ${error && html`<${Problem} error=${error} retry=${reload} />`}
    ${warnings.map(({ code, message }) => html`<${Problem} key=${code} error=${{ message }} />`)}
    <${Figures} fanout=${data.fanout} />
    ${held && !refused ? html`<${Bots} params=${params} go=${go} onRefused=${setRefused} />`
      : html`<${Locked} reason=${refused?.message} onToken=${() => setRefused(null)} />`}
  </div>`;
}

export const fanout = { path: "fanout", title: "Fan-out", icon: "fanout", View };
