// The details of one relay, beside the list.

import { change, get } from "../api.js";
import { Ago, At, Badge, Button, Facts, IconButton, Loading, Problem, Untrusted } from "../components.js";
import { attempt, confirm } from "../dialogs.js";
import { bytes, count, duration, milliseconds, percent, time } from "../format.js";
import { html, useEffect, usePolled, useRef } from "../ui.js";
import { firstShare, RelayState, STATES } from "./relays.js";

const REFRESH_SECONDS = 3;

/** Unix seconds as a time and how long ago it is. */
function Moment({ seconds }) {
  if (seconds === null || seconds === undefined) return "nothing yet";
  return html`${time(1000 * seconds)} <span class="dim">(<${Ago} ms=${1000 * seconds} units=${1} />)</span>`;
}

function State({ relay }) {
  return html`<div class="state-line"><${RelayState} relay=${relay} />
    ${relay.since_ms && html`<span class="dim">since <${At} ms=${relay.since_ms} /></span>`}
    ${relay.until_ms && html`<span class="dim">next attempt ${relay.until_ms > Date.now() ? html`<${Ago} ms=${relay.until_ms} />` : "is due"}</span>`}</div>
    ${relay.silent && html`<p class="dim">It is connected but sends no events, while several other relays do.</p>`}
    ${relay.reason && html`<p class="quote"><${Untrusted} text=${relay.reason} /></p>`}`;
}

function History({ history }) {
  return html`<ol class="history">${[...history].reverse().map(({ at_ms: at, status, reason }) => {
    const [kind, name] = STATES[status] ?? ["idle", status];
    return html`<li key=${`${at} ${status}`}><span class="history-time"><${At} ms=${at} /></span>
      <div><${Badge} kind=${kind}>${name}<//>${reason && html`<p class="dim"><${Untrusted} text=${reason} /></p>`}</div></li>`;
  })}</ol>`;
}

/** The reason of a gap in words. */
function gapReason(reason) {
  if (reason === "may_be_late") return "late events may have arrived while we were away";
  if (reason === "not_asked") return "not requested yet";
  if (reason?.beyond_cap) return `one second has more events than the ${count(reason.beyond_cap.got)} that the relay returns`;
  if (reason?.refused !== undefined) return html`the relay refused: <${Untrusted} text=${reason.refused} />`;
  return JSON.stringify(reason);
}

function Gaps({ gaps }) {
  if (!gaps.length) return html`<p class="dim">None: everything in the covered span is proven.</p>`;
  return html`<ul class="gaps">${gaps.map(({ since, until, reason }) => html`<li key=${since}>
    ${time(1000 * since)} <span class="dim">for ${duration(until - since + 1)}:</span> ${gapReason(reason)}</li>`)}</ul>`;
}

function Information({ information }) {
  if (!information) return html`<p class="dim">None. It is fetched when there is something to repair, at most once a day.</p>`;
  const yes = (value) => (value ? "yes" : null);
  return html`<${Facts} rows=${[
    ["Software", information.software && html`<${Untrusted} text=${information.software} />`],
    ["Version", information.version && html`<${Untrusted} text=${information.version} />`],
    ["Events in an answer", information.max_limit && `at most ${count(information.max_limit)}`],
    ["Without a limit", information.default_limit && count(information.default_limit)],
    ["Subscriptions", information.max_subscriptions && `at most ${count(information.max_subscriptions)}`],
    ["Filters in a request", information.max_filters && `at most ${count(information.max_filters)}`],
    ["Message length", information.max_message_length && bytes(information.max_message_length)],
    ["Reconciliation (NIP-77)", yes(information.negentropy)],
    ["Authentication required", yes(information.auth_required)],
    ["Payment required", yes(information.payment_required)],
  ]} />`;
}

function Refused({ refused }) {
  const reasons = Object.entries(refused).filter(([, number]) => number).sort(([, a], [, b]) => b - a);
  if (!reasons.length) return html`<p class="dim">Nothing was refused.</p>`;
  return html`<${Facts} rows=${reasons.map(([reason, number]) => [reason.replaceAll("_", " "), count(number)])} />`;
}

function Details({ relay }) {
  const share = firstShare(relay);
  const { repair } = relay;
  return html`<${State} relay=${relay} />
    <h3>Contribution</h3>
    <${Facts} rows=${[
      ["Delivered first", `${count(relay.first)}${share === null ? "" : ` (${percent(share)})`}`],
      ["Copies of known events", count(relay.copies)],
      ["Copies are late by", relay.late_ms === null ? "no sample yet" : milliseconds(relay.late_ms)],
      ["Events, messages", `${count(relay.events)}, ${count(relay.frames)}`],
      ["Received", bytes(relay.bytes)],
    ]} />
    <h3>Completeness</h3>
    <${Facts} rows=${[
      ["Proven from", html`<${Moment} seconds=${relay.proven_from} />`],
      ["Proven until", html`<${Moment} seconds=${relay.proven_until} />`],
      ["Covered until", html`<${Moment} seconds=${relay.covered_until} />`],
      ["Repair", repair ? `by ${repair.by === "negentropy" ? "NIP-77" : "REQ"} from ${time(1000 * repair.since)}: ${count(repair.events)} events in ${count(repair.requests)} requests` : null],
    ]} />
    <h4>Gaps</h4>
    <${Gaps} gaps=${relay.open_gaps} />
    <h3>Offences and refusals</h3>
    <${Facts} rows=${[
      ["Offences", count(relay.offences)], ["Forgeries among them", count(relay.forgeries)], ["Recent quarantines", count(relay.quarantines)],
    ]} />
    <h4>Refused, by reason</h4>
    <${Refused} refused=${relay.refused} />
    <h3>Connection</h3>
    <${Facts} rows=${[
      ["Connected in total", duration(relay.uptime_seconds)],
      ["Reconnects", count(relay.reconnects)],
      ["Ping", milliseconds(relay.rtt_ms)],
      ["Requests", `${count(relay.requests)}, at least ${milliseconds(relay.request_gap_ms)} apart`],
      ["Told to ask less often", count(relay.rate_limited)],
      ["Notices", count(relay.notices)],
      ["Events in one answer", relay.answer_cap ? `at most ${count(relay.answer_cap)}` : "not known"],
    ]} />
    <h3>Relay information (NIP-11)</h3>
    <${Information} information=${relay.information} />
    <h3>History</h3>
    <${History} history=${relay.history} />`;
}

export function Relay({ url, onClose }) {
  const { data: relay, error, reload } = usePolled((signal) => get(`api/relays/${encodeURIComponent(url)}`, { signal }), REFRESH_SECONDS, [url]);
  const heading = useRef(null);
  useEffect(() => heading.current.focus(), []);
  const remove = async () => {
    const isSure = await confirm({
      title: "Remove this relay?", action: "Remove", kind: "danger",
      text: html`<p>The gateway closes its connection to <strong><${Untrusted} text=${url} /></strong> and does not connect again, not even after a
        restart. Events that the relay delivered stay in the log.</p>`,
    });
    if (!isSure) return;
    const removed = await attempt(() => change("DELETE", "api/relays/remove", { url }), `Removed ${url}.`);
    if (removed) onClose();
  };
  const pressed = (event) => {
    if (event.key === "Escape") onClose();
  };
  return html`<aside class="panel side" aria-label="Details of a relay" onKeyDown=${pressed}>
    <header class="panel-head"><h2 tabindex="-1" ref=${heading}><${Untrusted} text=${url} /></h2><span class="spring"></span>
      <${IconButton} icon="close" label="Close the details" onClick=${onClose} /></header>
    <div class="side-body" tabindex="0" role="region" aria-label="Details">
      ${error && html`<${Problem} error=${error} retry=${reload} />`}
      ${relay ? html`<${Details} relay=${relay} />` : !error && html`<${Loading} what="the relay" />`}
    </div>
    <footer class="side-foot"><${Button} kind="danger" onClick=${remove}>Remove this relay<//></footer>
  </aside>`;
}
