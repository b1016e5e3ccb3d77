// Dialogs, and short messages about what has happened.

import { Button, IconButton, Icon, Untrusted } from "./components.js";
import { html, shared, useEffect, useRef, useShared, useState } from "./ui.js";

/** A modal dialog. Escape and the close button call `onClose`. */
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.focus?.();
  }, []);
  const cancelled = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${dialog} class="dialog" aria-label=${title} onCancel=${cancelled}>
    <header class="dialog-head"><h2>${title}</h2>
      <${IconButton} icon="close" label="Close" onClick=${onClose} /></header>
    ${children}
  </dialog>`;
}

/** The dialogs that wait for an answer. The last one is above the others. */
const waiting = shared([]);

function open(View, properties) {
  return new Promise((resolve) => {
    const entry = { View, properties };
    entry.done = (answer) => {
      waiting.set(waiting.get().filter((other) => other !== entry));
      resolve(answer);
    };
    waiting.set([...waiting.get(), entry]);
  });
}

/** Where dialogs appear; the shell contains it once. */
export function Dialogs() {
  return useShared(waiting).map(({ View, properties, done }) => html`<${View} ...${properties} done=${done} key=${done} />`);
}

/** Asks before something is changed; resolves to true if the user confirms. */
export const confirm = ({ title, text, action, kind = "primary" }) => open(Confirm, { title, text, action, kind });

function Confirm({ title, text, action, kind, done }) {
  const submitted = (event) => {
    event.preventDefault();
    done(true);
  };
  return html`<${Dialog} title=${title} onClose=${() => done(false)}>
    <form onSubmit=${submitted}>
      <div class="dialog-body">${text}</div>
      <footer class="dialog-foot">
        <${Button} onClick=${() => done(false)}>Cancel<//>
        <button type="submit" class="button ${kind}" autofocus>${action}</button>
      </footer>
    </form>
  <//>`;
}

/**
 * Asks for one value; resolves to it, or to null. `send(value)`, if given, does the work: the dialog
 * stays open and shows the message if it fails.
 */
export const prompt = (properties) => open(Prompt, properties);

function Prompt({ title, text, label, action, initial = "", type = "text", placeholder = "", problem, send, done }) {
  const [shownProblem, setProblem] = useState(problem ?? null);
  const [isBusy, setBusy] = useState(false);
  const field = useRef(null);
  const submitted = async (event) => {
    event.preventDefault();
    const value = field.current.value.trim();
    if (!value) return;
    if (!send) return done(value);
    setBusy(true);
    setProblem(null);
    try {
      await send(value);
      done(value);
    } catch (error) {
      setBusy(false);
      setProblem(error.message);
      field.current?.focus();
    }
  };
  return html`<${Dialog} title=${title} onClose=${() => done(null)}>
    <form onSubmit=${submitted}>
      <div class="dialog-body">
        ${text && html`<p>${text}</p>`}
        <label class="field"><span>${label}</span>
          <input ref=${field} type=${type} defaultValue=${initial} placeholder=${placeholder} autofocus
            autocomplete="off" autocapitalize="off" spellcheck=${false} /></label>
        <p class="field-problem" role="alert">${shownProblem && html`<${Untrusted} text=${shownProblem} most=${400} />`}</p>
      </div>
      <footer class="dialog-foot">
        <${Button} onClick=${() => done(null)}>Cancel<//>
        <button type="submit" class="button primary" disabled=${isBusy}>${isBusy ? "Please wait …" : action}</button>
      </footer>
    </form>
  <//>`;
}

/** Asks for a token, for `onTokenNeeded` of the API. */
export function askForToken({ use, problem, reason }) {
  const isAdmin = use === "admin";
  return prompt({
    title: isAdmin ? "Admin token" : "Token",
    text: isAdmin
      ? "Changing the gateway needs the admin token ([api] admin_token). This browser keeps it until its session ends."
      : "Reading from this gateway needs a token ([[api.readers]], or the admin token). This browser keeps it until its session ends.",
    label: isAdmin ? "Admin token" : "Token",
    type: "password",
    action: "Continue",
    problem: problem ?? (isAdmin ? null : reason),
  });
}

const NOTICE_MS = 8_000;

const notices = shared([]);

/** Shows a short message: notify("The relay was removed."). `kind` is "ok" or "bad". */
export function notify(text, kind = "ok") {
  const notice = { text, kind, id: Symbol("notice") };
  notices.set([...notices.get().slice(-3), notice]);
  setTimeout(() => dismiss(notice), NOTICE_MS);
}

const dismiss = (notice) => notices.set(notices.get().filter((other) => other !== notice));

/** Does a change, and reports the outcome. Resolves to the answer, or to null if it failed. */
export async function attempt(change, succeeded) {
  try {
    const answer = await change();
    notify(typeof succeeded === "function" ? succeeded(answer) : succeeded);
    return answer;
  } catch (error) {
    notify(error.message, "bad");
    return null;
  }
}

/** Where messages appear; the shell contains it once. Screen readers announce them. */
export function Notices() {
  const shown = useShared(notices);
  return html`<div class="notices" role="status" aria-live="polite">
    ${shown.map((notice) => html`<div class="notice ${notice.kind}" key=${notice.id}>
      <${Icon} name=${notice.kind === "bad" ? "warning" : "check"} /><p><${Untrusted} text=${notice.text} most=${400} /></p>
      <${IconButton} icon="close" label="Dismiss" onClick=${() => dismiss(notice)} />
    </div>`)}
  </div>`;
}
