// One sink, beside the list: its progress, its controls and its dead letters.

import { change, get } from "../api.js";
import { Ago, At, Button, Facts, IconButton, Loading, Problem, Untrusted } from "../components.js";
import { attempt, confirm } from "../dialogs.js";
import { count } from "../format.js";
import { html, useEffect, usePolled, useRef, useState } from "../ui.js";
import { DeadLetters } from "./dead_letters.js";
import { behind, perSecond, SinkState } from "./sinks.js";

const REFRESH_SECONDS = 2;

const pathOf = (name) => `api/downstreams/${encodeURIComponent(name)}`;

const EXPLAINED = {
  parked: "Nothing is sent until it is resumed, or the gateway restarts.",
  paused: "An operator has paused it. It stays paused after a restart.",
  retrying: "The gateway tries again. Nothing is lost while the log keeps the events.",
  catching_up: "It receives events that it has missed.",
};

function State({ sink }) {
  return html`<div class="state-line"><${SinkState} status=${sink.status} />
      ${sink.since_ms && html`<span class="dim">since <${At} ms=${sink.since_ms} /></span>`}
      ${sink.until_ms && html`<span class="dim">next attempt <${Ago} ms=${sink.until_ms} /></span>`}</div>
    ${EXPLAINED[sink.status] && html`<p class="dim">${EXPLAINED[sink.status]}</p>`}
    ${sink.reason && html`<p class="quote"><${Untrusted} text=${sink.reason} /></p>`}`;
}

function Controls({ sink, act }) {
  const pause = async () => {
    const isSure = await confirm({
      title: "Pause this sink?", action: "Pause",
      text: html`<p>The gateway sends nothing to <strong><${Untrusted} text=${sink.name} /></strong> until it is resumed, not even after a
        restart. Its cursor stays, but events that retention deletes meanwhile are lost for it.</p>`,
    });
    if (isSure) act("pause", {}, `Paused ${sink.name}.`);
  };
  const resume = () => act("resume", {}, `Resumed ${sink.name}.`);
  const resumes = { paused: "Resume", parked: "Resume", retrying: "Try now" }[sink.status];
  return html`<div class="actions">
    ${resumes && html`<${Button} kind="primary" icon="play" onClick=${resume}>${resumes}<//>`}
    ${sink.status !== "paused" && html`<${Button} icon="pause" onClick=${pause}>Pause<//>`}
  </div>`;
}

/** A text that says what moving the cursor does. */
function effect(from, to) {
  if (to > from) return `${count(to - from)} sequences are skipped: the sink never gets the events in them.`;
  if (to === 0) return "Every event in the log is sent again, from the oldest one on.";
  return to < from ? `${count(from - to)} sequences are sent again.` : "The cursor is already there.";
}

function Seek({ sink, act }) {
  const [place, setPlace] = useState("newest");
  const [after, setAfter] = useState("");
  const head = sink.cursor + sink.lag;
  const target = { newest: head, oldest: 0, after: /^\d{1,15}$/.test(after) ? Number(after) : null }[place];
  const submitted = async (event) => {
    event.preventDefault();
    if (target === null) return;
    const isSure = await confirm({
      title: "Move the cursor?", action: "Move", kind: target > sink.cursor ? "danger" : "primary",
      text: html`<p>The cursor of <strong><${Untrusted} text=${sink.name} /></strong> moves
        from ${count(sink.cursor)} to ${count(target)}. ${effect(sink.cursor, target)}</p>`,
    });
    if (isSure) act("seek", { cursor: target }, `Moved the cursor of ${sink.name} to ${count(target)}.`);
  };
  const choice = (value, text) => html`<label class="choice">
    <input type="radio" name="place" value=${value} checked=${place === value} onChange=${() => setPlace(value)} />${text}</label>`;
  return html`<details class="disclosure"><summary>Move the cursor</summary>
    <form onSubmit=${submitted}>
      <fieldset><legend class="dim">Continue</legend>
        ${choice("newest", html`with new events only, after ${count(head)}`)}
        ${choice("oldest", "with the oldest event in the log")}
        ${choice("after", "after a sequence")}
        ${place === "after" && html`<label class="field"><span>Sequence</span>
          <input inputmode="numeric" value=${after} onInput=${(event) => setAfter(event.currentTarget.value.trim())}
            aria-invalid=${after !== "" && target === null} autocomplete="off" /></label>`}
        ${place === "after" && after !== "" && target === null && html`<p class="bad-text">A sequence is a whole number, such as ${head}.</p>`}
      </fieldset>
      <button type="submit" class="button" disabled=${target === null}>Move …</button>
    </form>
  </details>`;
}

function Lost({ sink }) {
  if (!sink.lost) return null;
  return html`<h4>Lost</h4><p class="bad-text">Retention deleted ${count(sink.lost)} sequences before the sink had them.</p>
    <ul class="gaps">${[...sink.lost_ranges].reverse().map(({ first, last }) => html`<li key=${first}>${count(first)} to ${count(last)}</li>`)}</ul>`;
}

function Details({ sink, act, reload }) {
  const isHttp = sink.kind === "http";
  return html`<${State} sink=${sink} />
    <${Controls} sink=${sink} act=${act} />
    <h3>Progress</h3>
    <${Facts} rows=${[
      ["Cursor", count(sink.cursor)],
      ["Lag", `${count(sink.lag)} events`],
      ["Behind", behind(sink)],
      ["Rate of the last minute", perSecond(sink.events_per_second)],
      ["Delivered since the start", `${count(sink.delivered)} events`],
    ]} />
    <${Lost} sink=${sink} />
    <${Seek} sink=${sink} act=${act} />
    <h3>Connection</h3>
    <${Facts} rows=${[
      ["Kind", isHttp ? "HTTP" : "TCP"],
      ["Address", html`<${Untrusted} text=${sink.address} />`],
      ["Repeated requests", isHttp ? count(sink.retries) : null],
      ["Reconnects", isHttp ? null : count(sink.reconnects)],
      ["Wrong or missing acknowledgements", isHttp ? null : count(sink.ack_errors)],
      ["Last error", sink.last_error ? html`<${Untrusted} text=${sink.last_error} />` : "none"],
    ]} />
    ${isHttp && html`<${DeadLetters} sink=${sink} path=${`${pathOf(sink.name)}/dead-letters`} onChanged=${reload} />`}`;
}

export function Sink({ name, onClose, onChanged }) {
  const { data: sink, error, reload } = usePolled((signal) => get(pathOf(name), { signal }), REFRESH_SECONDS, [name]);
  const heading = useRef(null);
  useEffect(() => heading.current.focus(), []);
  const reloadAll = () => {
    reload();
    onChanged();
  };
  const act = async (command, body, succeeded) => {
    if (await attempt(() => change("POST", `${pathOf(name)}/${command}`, body), succeeded)) reloadAll();
  };
  const pressed = (event) => {
    if (event.key === "Escape") onClose();
  };
  return html`<aside class="panel side" aria-label="Details of a sink" onKeyDown=${pressed}>
    <header class="panel-head"><h2 tabindex="-1" ref=${heading}><${Untrusted} text=${name} /></h2><span class="spring"></span>
      <${IconButton} icon="close" label="Close the details" onClick=${onClose} /></header>
    <div class="side-body">
      ${error && html`<${Problem} error=${error} retry=${reload} />`}
      ${sink ? html`<${Details} sink=${sink} act=${act} reload=${reloadAll} />` : !error && html`<${Loading} what="the sink" />`}
    </div>
  </aside>`;
}
