// The basis of all views: templates, hooks, and values that several components share.

import htm from "./vendor/htm.mjs";
import { useEffect, useRef, useState } from "./vendor/hooks.mjs";
import { h, render } from "./vendor/preact.mjs";

export { render, useEffect, useRef, useState };
export { useCallback, useLayoutEffect, useMemo } from "./vendor/hooks.mjs";

/** html`<p>${text}</p>` makes elements. Text that is inserted in a template is never parsed as HTML. */
export const html = htm.bind(h);

/** A value that several components read. */
export function shared(value) {
  const readers = new Set();
  return {
    get: () => value,
    set(next) {
      if (next === value) return;
      value = next;
      for (const reader of [...readers]) reader(value);
    },
    subscribe(reader) {
      readers.add(reader);
      return () => readers.delete(reader);
    },
  };
}

/** The current value of a `shared` one; the component is drawn again when it changes. */
export function useShared(source) {
  const [value, setValue] = useState(source.get());
  useEffect(() => {
    setValue(source.get());
    return source.subscribe(setValue);
  }, [source]);
  return value;
}

/** The latest version of a function that timers and listeners call. */
export function useLatest(value) {
  const latest = useRef(value);
  latest.current = value;
  return latest;
}

/**
 * Loads something now, every `seconds`, and whenever one of `inputs` changes, but not while the page
 * is hidden. `load` gets an AbortSignal. Returns the last answer, and the error of the last attempt.
 */
export function usePolled(load, seconds, inputs = []) {
  const [state, setState] = useState({ data: null, error: null });
  const latest = useLatest(load);
  const again = useRef(() => {});
  useEffect(() => {
    let timer = 0;
    let stopping = new AbortController();
    const next = async () => {
      clearTimeout(timer);
      stopping.abort();
      if (document.hidden) return;
      const { signal } = (stopping = new AbortController());
      try {
        const data = await latest.current(signal);
        if (!signal.aborted) setState({ data, error: null });
      } catch (error) {
        if (!signal.aborted) setState(({ data }) => ({ data, error }));
      }
      if (!signal.aborted && seconds) timer = setTimeout(next, seconds * 1000);
    };
    again.current = next;
    document.addEventListener("visibilitychange", next);
    next();
    return () => {
      clearTimeout(timer);
      stopping.abort();
      document.removeEventListener("visibilitychange", next);
    };
  }, [seconds, ...inputs]);
  return { ...state, reload: () => again.current() };
}
