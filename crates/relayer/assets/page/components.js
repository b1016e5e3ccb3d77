// Small parts that all views use.

import { clock, relative, time } from "./format.js";
import { html, useEffect, useLatest, useRef, useState } from "./ui.js";

const ICONS = {
  overview: "M3 12h4l3-8 4 16 3-8h4",
  relays: "M12 12m-2.2 0a2.2 2.2 0 1 0 4.4 0a2.2 2.2 0 1 0-4.4 0M7.5 16.5a6.4 6.4 0 0 1 0-9M16.5 7.5a6.4 6.4 0 0 1 0 9M4.6 19.4a10.5 10.5 0 0 1 0-14.8M19.4 4.6a10.5 10.5 0 0 1 0 14.8",
  sinks: "M4 4v5a4 4 0 0 0 4 4h12M15 8l5 5-5 5M4 20h6",
  fanout: "M4 12h6M10 12l8-7h2M10 12h10M10 12l8 7h2",
  log: "M4 6h16M4 12h10M4 18h13",
  sun: "M12 8a4 4 0 1 0 0 8a4 4 0 0 0 0-8M12 2v2M12 20v2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M2 12h2M20 12h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.500 10.500z",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  key: "M8 12a4 4 0 1 0 0 .01M11.900 12H21v4M17 12v3",
  close: "M6 6l12 12M18 6L6 18",
  warning: "M12 4L2.500 20h19zM12 10v4M12 17h.01",
  check: "M5 13l4 4L19 7",
  add: "M12 5v14M5 12h14",
  search: "M11 4a7 7 0 1 0 0 14a7 7 0 0 0 0-14M16 16l4.500 4.500",
  up: "M7 14l5-5 5 5",
  down: "M7 10l5 5 5-5",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l12 7-12 7z",
};

/** A decorative icon; the text beside it says what it means. */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;
}

/** Characters that are invisible, or that change how other characters are shown (bidi controls). */
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}]/gu;

const NAMED = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

const escaped = (character) => NAMED[character] ?? `\\u{${character.codePointAt(0).toString(16)}}`;

/** Splits a text into strings and elements, which show its hidden characters as escapes. */
function visible(text) {
  const parts = [];
  let from = 0;
  for (const { 0: character, index } of text.matchAll(HIDDEN)) {
    if (index > from) parts.push(text.slice(from, index));
    parts.push(html`<span class="escape">${escaped(character)}</span>`);
    from = index + character.length;
  }
  parts.push(text.slice(from));
  return parts;
}

/**
 * Text from outside, such as a relay's reason. It is never interpreted: hidden characters are written
 * out, its direction does not affect the text around it, and a long text is cut, with a button that
 * shows all of it.
 */
export function Untrusted({ text, most = 160 }) {
  const [isWhole, setWhole] = useState(false);
  const characters = [...String(text ?? "")];
  const isLong = characters.length > most;
  const shown = isLong && !isWhole ? characters.slice(0, most).join("") : characters.join("");
  return html`<span class="untrusted ${isWhole ? "whole" : ""}"><bdi>${visible(shown)}${isLong && !isWhole ? "…" : ""}</bdi>${isLong && html`
    <button type="button" class="link more" aria-expanded=${isWhole} onClick=${() => setWhole(!isWhole)}>
      ${isWhole ? "Show less" : `Show all ${characters.length.toLocaleString("en")} characters`}
    </button>`}</span>`;
}

/** The name of a state. `kind` is "ok", "busy", "warn", "bad" or "idle"; colour is not the only sign. */
export function Badge({ kind = "idle", children }) {
  return html`<span class="badge ${kind}"><span class="dot" aria-hidden="true"></span>${children}</span>`;
}

export function Button({ icon, kind = "", children, ...rest }) {
  return html`<button type="button" class="button ${kind}" ...${rest}>${icon && html`<${Icon} name=${icon} />`}${children}</button>`;
}

/** A button that shows only an icon. */
export function IconButton({ icon, label, ...rest }) {
  return html`<button type="button" class="button icon-only" aria-label=${label} title=${label} ...${rest}>
    <${Icon} name=${icon} />
  </button>`;
}

/** A part of a view with a heading. */
export function Panel({ title, note, actions, children, ...rest }) {
  return html`<section class="panel" ...${rest}>
    <header class="panel-head"><h2>${title}</h2>${note && html`<span class="dim">${note}</span>`}<span class="spring"></span>${actions}</header>
    ${children}
  </section>`;
}

/** The message of an empty list, with advice on what to do. */
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p><p>${children}</p></div>`;
}

/** A failed request, where its answer would be. */
export function Problem({ error, retry }) {
  return html`<div class="problem" role="alert">
    <${Icon} name="warning" /><p><${Untrusted} text=${error.message} most=${400} /></p>
    ${retry && html`<${Button} onClick=${retry}>Try again<//>`}
  </div>`;
}

export function Loading({ what }) {
  return html`<p class="loading" role="status">Loading ${what} …</p>`;
}

/** A figure with its name and unit. */
export function Stat({ label, value, unit, note, kind = "" }) {
  return html`<div class="stat ${kind}">
    <dt>${label}</dt>
    <dd><span class="stat-value">${value}</span>${unit && html` <span class="stat-unit">${unit}</span>`}
      ${note && html`<span class="stat-note">${note}</span>`}</dd>
  </div>`;
}

/** Names with values; rows without a value (null) are left out. */
export function Facts({ rows }) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined);
  return html`<dl class="facts">${known.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** A moment in Unix milliseconds, as "5 min ago" with the exact time as a hint. */
export function Ago({ ms, units }) {
  const now = useNow();
  if (ms === null || ms === undefined) return "–";
  return html`<time datetime=${iso(ms)} title=${time(ms)}>${relative(ms, now, units)}</time>`;
}

/** A moment in Unix milliseconds, as a time of the day or, if it is older, with its date. */
export function At({ ms }) {
  const isToday = new Date(ms).toDateString() === new Date().toDateString();
  return html`<time datetime=${iso(ms)} title=${time(ms)}>${isToday ? clock(ms) : time(ms)}</time>`;
}

function iso(ms) {
  const at = new Date(ms);
  return Number.isNaN(at.getTime()) ? undefined : at.toISOString();
}

const readers = new Set();
let ticking = 0;

/** The time in milliseconds, which moves every five seconds. One timer serves all readers. */
export function useNow() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    readers.add(setNow);
    ticking ||= setInterval(() => readers.forEach((reader) => reader(Date.now())), 5_000);
    return () => {
      readers.delete(setNow);
      if (!readers.size) ticking = clearInterval(ticking) ?? 0;
    };
  }, []);
  return now;
}

/** Toggle buttons; several may be pressed: [{ value, label, note }]. */
export function Chips({ label, choices, chosen, onChange }) {
  const toggled = (value) =>
    chosen.includes(value) ? chosen.filter((other) => other !== value) : [...chosen, value];
  return html`<div class="chips" role="group" aria-label=${label}>
    ${choices.map(({ value, label, note }) => html`<button type="button" class="chip" key=${value}
      aria-pressed=${chosen.includes(value)} onClick=${() => onChange(toggled(value))}>
      ${label}${note !== undefined && html` <span class="chip-note">${note}</span>`}
    </button>`)}
  </div>`;
}

/** A text field that reports what was typed after a pause. */
export function SearchField({ label, value, onChange }) {
  const timer = useRef(0);
  // Until the timer ends, another field may have changed what `onChange` builds on.
  const latest = useLatest(onChange);
  const typed = (event) => {
    const text = event.currentTarget.value.trim();
    clearTimeout(timer.current);
    timer.current = setTimeout(() => latest.current(text), 250);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  return html`<label class="search"><${Icon} name="search" /><span class="hidden">${label}</span>
    <input type="search" placeholder=${label} defaultValue=${value} onInput=${typed}
      autocomplete="off" autocapitalize="off" spellcheck=${false} /></label>`;
}
