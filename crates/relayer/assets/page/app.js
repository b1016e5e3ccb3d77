// The shell of the page: navigation, colours, tokens, and the view that the URL names.

import { isLocked, onTokenNeeded, reachable } from "./api.js";
import { Badge, Button, Empty, Icon, IconButton } from "./components.js";
import { askForToken, Dialogs, Notices, notify } from "./dialogs.js";
import { applyTheme, forgetTokens, heldTokens, keepToken, theme } from "./session.js";
import { html, render, shared, useEffect, useRef, useShared } from "./ui.js";
import { fanout } from "./views/fanout.js";
import { log } from "./views/log.js";
import { overview } from "./views/overview.js";
import { relays } from "./views/relays.js";
import { sinks } from "./views/sinks.js";

/** The views in the order of the navigation. The first one is shown if the URL names none. */
const VIEWS = [overview, relays, sinks, fanout, log];

applyTheme();
onTokenNeeded(askForToken);

/** The place that the URL names: #/relays?sort=lateness */
function place() {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  const view = VIEWS.find((view) => view.path === name) ?? (name ? null : VIEWS[0]);
  return { name, view, params: Object.fromEntries(new URLSearchParams(query)) };
}

const current = shared(place());
addEventListener("hashchange", () => current.set(place()));

const REACHABLE = { waiting: ["idle", "Connecting"], up: ["ok", "Connected"], down: ["bad", "Not reachable"] };

function Reachable() {
  const [kind, text] = REACHABLE[useShared(reachable)];
  return html`<span role="status" class="reachable"><${Badge} kind=${kind}>${text}<//></span>`;
}

const THEMES = { system: ["system", "light"], light: ["sun", "dark"], dark: ["moon", "system"] };

function ThemeButton() {
  const chosen = useShared(theme);
  const [icon, next] = THEMES[chosen] ?? THEMES.system;
  const label = `Colours: ${chosen === "system" ? "as the system" : chosen}. Change to ${next === "system" ? "the system's" : next}`;
  return html`<${IconButton} icon=${icon} label=${label} onClick=${() => theme.set(next)} />`;
}

function TokenButton() {
  const held = useShared(heldTokens);
  if (held) {
    const forget = () => {
      forgetTokens();
      notify("The token was forgotten.");
    };
    return html`<${IconButton} icon="key" label="Forget the token of this session" aria-pressed="true" onClick=${forget} />`;
  }
  const enter = async () => {
    const token = await askForToken({ use: "admin" });
    if (token) keepToken("admin", token);
  };
  return html`<${IconButton} icon="key" label="Enter the admin token" onClick=${enter} />`;
}

function Navigation({ view }) {
  return html`<nav class="nav" aria-label="Views"><ul>
    ${VIEWS.map(({ path, title, icon }) => html`<li key=${path}>
      <a href="#/${path}" aria-current=${view?.path === path ? "page" : undefined}><${Icon} name=${icon} />${title}</a>
    </li>`)}
  </ul></nav>`;
}

/** Shown instead of a view if reading needs a token and the user has entered none. */
function Locked() {
  const enter = async () => {
    const token = await askForToken({ use: "read" });
    if (!token) return;
    keepToken("read", token);
    isLocked.set(false);
  };
  return html`<${Empty} title="Reading needs a token">
    This gateway answers only requests with a token. <${Button} kind="primary" icon="key" onClick=${enter}>Enter a token<//>
  <//>`;
}

function Unknown({ name }) {
  return html`<${Empty} title="There is no such view">The address names “${name}”. Choose a view in the navigation.<//>`;
}

/** Changes the parameters of the URL. A parameter that is null or empty is removed. */
export function goTo(view, params, { replace = false } = {}) {
  const known = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const url = `#/${view}${known.length ? `?${new URLSearchParams(known)}` : ""}`;
  if (!replace) {
    location.hash = url;
    return;
  }
  history.replaceState(null, "", url);
  current.set(place());
}

function App() {
  const { name, view, params } = useShared(current);
  const locked = useShared(isLocked);
  const main = useRef(null);
  const shown = useRef(null);
  useEffect(() => {
    document.title = view ? `${view.title} · Relayer` : "Relayer";
    // Keyboards and screen readers continue at the new view, except on the first one.
    if (shown.current && shown.current !== view) main.current.focus();
    shown.current = view;
  }, [view]);
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  return html`
    <a class="skip" href="#/" onClick=${skip}>Skip to the content</a>
    <header class="bar">
      <a class="brand" href="#/"><img src="${new URL("icon.svg", import.meta.url)}" alt="" width="22" height="22" />Relayer</a>
      <${Navigation} view=${view} />
      <div class="tools"><${Reachable} /><span class="spring"></span><${TokenButton} /><${ThemeButton} />
        <a class="button" href="api/docs">API</a></div>
    </header>
    <main class="main" id="content" tabindex="-1" ref=${main} aria-label=${view?.title ?? "Relayer"}>
      ${locked ? html`<${Locked} />`
        : view ? html`<${view.View} params=${params} go=${(params, how) => goTo(view.path, params, how)} key=${view.path} />`
        : html`<${Unknown} name=${name} />`}
    </main>
    <${Notices} />
    <${Dialogs} />`;
}

const app = document.getElementById("app");
app.replaceChildren();
render(html`<${App} />`, app);
