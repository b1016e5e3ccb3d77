// The gateway's API: requests with the session's token, and streams.

import { forgetToken, keepToken, tokenFor } from "./session.js";
import { shared } from "./ui.js";

/** How long a request may take. */
const PATIENCE_MS = 20_000;

/** The pause before a lost stream is opened again; it doubles up to the maximum. */
const RETRY_MS = 1_000;
const RETRY_MS_MAX = 30_000;

/** Whether the gateway answers: "waiting", "up" or "down". */
export const reachable = shared("waiting");

/** A request that failed. `message` is a sentence for people, `code` is for programs. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "", answer = {} } = {}) {
    super(message);
    Object.assign(this, { status, code, answer });
  }
}

let ask = async () => null;

/** `ask({ use, problem })` asks the user for a token, and resolves to it or to null. */
export function onTokenNeeded(prompt) {
  ask = prompt;
}

/** Whether the user was asked for a read token and entered none. */
export const isLocked = shared(false);

/** Reads: get("api/relays", { params: { limit: 10 } }). `use: "admin"` sends the admin token. */
export function get(path, { params = {}, use = "read", signal } = {}) {
  return request("GET", path + query(params), { use, signal });
}

/** Changes something: change("POST", "api/relays/add", { url }). Asks for the admin token. */
export function change(method, path, body) {
  return request(method, path, { use: "admin", body: body ?? {} });
}

export function query(params) {
  const known = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return known.length ? `?${new URLSearchParams(known)}` : "";
}

async function request(method, path, { use, body, signal }) {
  for (;;) {
    const sent = tokenFor(use);
    const answer = await send(method, path, sent?.token, body, signal);
    if (answer.ok) return answer.status === 204 ? null : parsed(answer);
    const error = await failure(answer);
    if (error.status !== 401 || !(await obtained(use, sent, error))) throw error;
  }
}

async function send(method, path, token, body, signal) {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const limit = AbortSignal.timeout(PATIENCE_MS);
  try {
    const answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    reachable.set("up");
    return answer;
  } catch (error) {
    if (signal?.aborted) throw error;
    reachable.set("down");
    const message = limit.aborted
      ? `The gateway did not answer within ${PATIENCE_MS / 1000} seconds.`
      : "The gateway cannot be reached.";
    throw new ApiError(message, { code: "unreachable" });
  }
}

async function parsed(answer) {
  try {
    return await answer.json();
  } catch {
    throw new ApiError("The answer is not JSON. It may come from a proxy in front of the gateway.");
  }
}

/** The error that an answer describes. A proxy's answer may have any body. */
async function failure(answer) {
  const body = await answer.json().catch(() => ({}));
  const message = typeof body.message === "string" ? body.message : `The answer is ${answer.status}.`;
  const code = typeof body.error === "string" ? body.error : "";
  return new ApiError(message.charAt(0).toUpperCase() + message.slice(1), { status: answer.status, code, answer: body });
}

const prompts = new Map();

/** After a 401: whether there is another token to try. A refused token is forgotten. */
async function obtained(use, sent, error) {
  const now = tokenFor(use);
  if (now && now.token !== sent?.token) return true;
  let problem = null;
  if (sent && sent.slot === use) {
    forgetToken(use);
    if (tokenFor(use)) return true;
    problem = "The gateway does not accept this token, so it was forgotten. Enter the right one.";
  } else if (sent) {
    problem = "The token of this session only permits reading.";
  }
  if (use === "read" && isLocked.get()) return false;
  if (!prompts.has(use)) {
    const asked = ask({ use, problem, reason: error.message }).finally(() => prompts.delete(use));
    prompts.set(use, asked);
  }
  const token = await prompts.get(use);
  if (token) keepToken(use, token);
  if (use === "read") isLocked.set(!token);
  return Boolean(token);
}

/** A ticket for a stream: browsers send no headers with it. Asks for a token if one is needed. */
async function ticket() {
  return (await request("POST", "api/tickets", { use: "read", body: {} })).ticket;
}

/**
 * Opens Server-Sent Events, and opens them again when they are lost. They are closed while the page
 * is hidden, and while the user gives no token although reading needs one. `params()` is asked at
 * each attempt, so it may contain a cursor. `events` has a handler for each event's name; it gets
 * the parsed data and the event's id. `onState` gets "connecting", "open" or "lost". Returns a
 * function that closes the stream.
 */
export function stream(path, { params = () => ({}), events = {}, onState = () => {} }) {
  let source = null;
  let timer = 0;
  let pause = RETRY_MS;
  let attempt = 0;

  const close = () => {
    attempt += 1;
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const lost = (error) => {
    close();
    onState("lost");
    // Without a token that may read, further attempts would be refused, too.
    if (error?.status === 401 || error?.status === 403) return;
    timer = setTimeout(open, pause * (0.5 + Math.random() / 2));
    pause = Math.min(2 * pause, RETRY_MS_MAX);
  };
  const open = async () => {
    close();
    if (document.hidden) return;
    const mine = attempt;
    onState("connecting");
    let entry;
    try {
      entry = await ticket();
    } catch (error) {
      if (mine === attempt) lost(error);
      return;
    }
    if (mine !== attempt) return;
    source = new EventSource(path + query({ ...params(), ticket: entry }));
    source.onopen = () => {
      pause = RETRY_MS;
      reachable.set("up");
      onState("open");
    };
    // The browser's own attempts would use a ticket that has expired.
    source.onerror = () => lost();
    for (const [name, handler] of Object.entries(events)) {
      source.addEventListener(name, (event) => handler(JSON.parse(event.data), event.lastEventId));
    }
  };

  const ignoreLocks = isLocked.subscribe((locked) => locked || open());
  document.addEventListener("visibilitychange", open);
  open();
  return () => {
    ignoreLocks();
    document.removeEventListener("visibilitychange", open);
    close();
  };
}
