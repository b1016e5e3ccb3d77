// The dead letters of a sink: the reason and the event of each, and buttons to replay or drop it.

import { change, get } from "../api.js";
import { At, Badge, Button, Loading, Problem, Untrusted } from "../components.js";
import { attempt, confirm } from "../dialogs.js";
import { count } from "../format.js";
import { html, usePolled, useState } from "../ui.js";
import { EventContent, linkToEvent } from "./event.js";

/** How many letters are shown at once; their events may be large. */
const PAGE = 20;

function Letter({ letter, onReplay, onDrop }) {
  const { seq, refused_at: refusedAt, tries, reason, replaying, envelope } = letter;
  return html`<li class="letter">
    <div class="letter-head"><a href=${linkToEvent(envelope.event.id)}>Sequence ${count(seq)}</a>
      <span class="dim">rejected <${At} ms=${refusedAt} />${tries > 1 && `, ${count(tries)} times`}</span>
      ${replaying && html`<${Badge} kind="busy">Waits for its replay<//>`}</div>
    <p class="quote"><${Untrusted} text=${reason} /></p>
    <details class="disclosure"><summary>The event</summary><${EventContent} event=${envelope.event} /></details>
    <div class="actions"><${Button} onClick=${onReplay} aria-label="Replay sequence ${seq}">Replay<//>
      <${Button} kind="danger" onClick=${onDrop} aria-label="Drop sequence ${seq}">Drop<//></div>
  </li>`;
}

const letters = (number) => (number === 1 ? "1 dead letter" : `${count(number)} dead letters`);

export function DeadLetters({ sink, path, onChanged }) {
  // The cursors of the pages before this one.
  const [cursors, setCursors] = useState([]);
  const cursor = cursors.at(-1);
  const { data, error, reload } = usePolled(
    (signal) => get(path, { params: { limit: PAGE, cursor }, signal }), 0, [path, cursor, sink.dead_letters, sink.refused, sink.replaying]);

  const act = async (method, suffix, which, succeeded) => {
    if (!(await attempt(() => change(method, path + suffix, which), succeeded))) return;
    reload();
    onChanged();
  };
  const replay = (which) => act("POST", "/replay", which, ({ replaying }) => `Sending ${letters(replaying)} to ${sink.name} again.`);
  const replayAll = async () => {
    const isSure = await confirm({
      title: "Replay all dead letters?", action: "Replay all",
      text: html`<p>${letters(data.total)} of <strong><${Untrusted} text=${sink.name} /></strong> are sent again, one at a time and out of
        order. A letter that the sink accepts is deleted; one that it rejects again stays.</p>`,
    });
    if (isSure) replay({ all: true });
  };
  const drop = async (which, what) => {
    const isSure = await confirm({
      title: `Drop ${what}?`, action: "Drop", kind: "danger",
      text: html`<p>The sink <strong><${Untrusted} text=${sink.name} /></strong> never gets ${which.all ? "these events" : "this event"}.
        The log keeps events as long as retention permits.</p>`,
    });
    if (!isSure) return;
    setCursors([]);
    await act("DELETE", "", which, ({ dropped }) => `Dropped ${letters(dropped)}.`);
  };

  const total = data?.total ?? sink.dead_letters;
  const shown = data?.dead_letters ?? [];
  return html`<h3>Dead letters</h3>
    ${error && html`<${Problem} error=${error} retry=${reload} />`}
    ${!data && !error && html`<${Loading} what="the dead letters" />`}
    ${data && total === 0 && html`<p class="dim">None: the sink has rejected no event that is still kept here.</p>`}
    ${sink.dead_letters_dropped > 0 && html`<p class="bad-text">${letters(sink.dead_letters_dropped)} were dropped for lack of space.</p>`}
    ${total > 0 && html`<p class="dim">${letters(total)}${sink.replaying > 0 && `, of which ${count(sink.replaying)} wait for their replay`}.</p>
      <div class="actions"><${Button} onClick=${replayAll}>Replay all<//>
        <${Button} kind="danger" onClick=${() => drop({ all: true }, "all dead letters")}>Drop all<//></div>`}
    <ul class="letters">${shown.map((letter) => html`<${Letter} key=${letter.seq} letter=${letter}
      onReplay=${() => replay({ seq: letter.seq })} onDrop=${() => drop({ seq: letter.seq }, "this dead letter")} />`)}</ul>
    ${(cursors.length > 0 || total > shown.length) && html`<div class="actions">
      <${Button} disabled=${!cursors.length} onClick=${() => setCursors(cursors.slice(0, -1))}>Back<//>
      <${Button} disabled=${shown.length === 0} onClick=${() => setCursors([...cursors, data.next_cursor])}>Next<//></div>`}`;
}
