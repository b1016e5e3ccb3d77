// Tables: a small one, and one that draws only the rows that are visible.

import { Icon } from "./components.js";
import { html, useEffect, useLatest, useRef, useState } from "./ui.js";

// A column: { key, title, render(row), width?, align? ("end"), sort? (the key to sort by), hint?,
// from? ("tablet" or "desktop": the least width of the table at which it is shown), isMain? (it
// takes the width that narrow tables have left), isMedium? (narrow tables give it a middle width)}.

/** The cells of the head; a column with `sort` has a button. */
function Head({ columns, sort, order, onSort }) {
  const next = (column) => {
    const isSame = column.sort === sort;
    const first = column.first ?? (column.align === "end" ? "desc" : "asc");
    onSort(column.sort, isSame ? (order === "asc" ? "desc" : "asc") : first);
  };
  return html`<thead><tr>${columns.map((column) => {
    const isSorted = column.sort && column.sort === sort;
    const direction = order === "desc" ? "descending" : "ascending";
    return html`<th key=${column.key} scope="col" class=${cellClass(column)} title=${column.hint} style=${{ width: column.width }}
      aria-sort=${column.sort ? (isSorted ? direction : "none") : undefined}>
      ${column.sort
        ? html`<button type="button" class="sort" onClick=${() => next(column)}>${column.title}
            <span class="sort-sign">${isSorted && html`<${Icon} name=${order === "desc" ? "down" : "up"} />`}</span></button>`
        : column.title}
    </th>`;
  })}</tr></thead>`;
}

const cellClass = (column) => [column.align === "end" && "end", column.from && `from-${column.from}`, column.isMain && "wide", column.isMedium && "medium"].filter(Boolean).join(" ");

const Cells = ({ columns, row }) =>
  columns.map((column) => html`<td key=${column.key} class=${cellClass(column)}>${column.render(row)}</td>`);

/** A table whose rows are all loaded. A column with `sort` sorts by its `value(row)`. */
export function Table({ label, columns, rows, keyOf, initial = {}, selected }) {
  const [{ sort, order }, setOrder] = useState({ sort: initial.sort, order: initial.order ?? "asc" });
  const column = columns.find((column) => column.sort && column.sort === sort);
  const sorted = column ? [...rows].sort((a, b) => compare(column.value(a), column.value(b), order)) : rows;
  return html`<div class="table-box" role="region" aria-label=${label} tabindex="0">
    <table class="table">
      <${Head} columns=${columns} sort=${sort} order=${order} onSort=${(sort, order) => setOrder({ sort, order })} />
      <tbody>${sorted.map((row) => html`<tr key=${keyOf(row)} class=${keyOf(row) === selected ? "selected" : ""}>
        <${Cells} columns=${columns} row=${row} /></tr>`)}</tbody>
    </table>
  </div>`;
}

/** Unknown values come last, in both directions. */
function compare(a, b, order) {
  const isKnown = (value) => value !== null && value !== undefined;
  if (!isKnown(a) || !isKnown(b)) return isKnown(b) - isKnown(a);
  const way = typeof a === "string" ? a.localeCompare(b) : a - b;
  return order === "desc" ? -way : way;
}

/** The height of a row in pixels, as in style.css. */
const ROW = 36;

/** How many rows are drawn above and below the visible ones. */
const MARGIN = 12;

/**
 * A table of any length. `at(index)` returns a row, or undefined while it is not here;
 * `onWindow(first, count)` says which rows are needed. `top` changes when it should scroll to its
 * beginning.
 */
export function LongTable({ label, columns, total, at, onWindow, keyOf, sort, order, onSort, selected, onOpen, top }) {
  const box = useRef(null);
  const [[first, count], setWindow] = useState([0, 2 * MARGIN]);
  const needed = useLatest(onWindow);
  useEffect(() => {
    const element = box.current;
    const measure = () => {
      const { scrollTop, clientHeight } = element;
      const from = Math.max(0, Math.floor(scrollTop / ROW) - MARGIN);
      const size = Math.ceil(clientHeight / ROW) + 2 * MARGIN;
      setWindow((before) => (before[0] === from && before[1] === size ? before : [from, size]));
    };
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    element.addEventListener("scroll", measure, { passive: true });
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    box.current.scrollTop = 0;
  }, [top]);
  const start = Math.min(first, Math.max(0, total - count));
  const end = Math.min(total, start + count);
  useEffect(() => needed.current(start, end - start), [start, end]);
  const rows = Array.from({ length: end - start }, (_, offset) => start + offset);
  return html`<div class="table-box long" role="region" aria-label=${label} tabindex="0" ref=${box}>
    <table class="table" aria-rowcount=${total + 1}>
      <${Head} columns=${columns} sort=${sort} order=${order} onSort=${onSort} />
      <tbody>
        ${start > 0 && html`<tr key="above" aria-hidden="true" style=${{ height: `${start * ROW}px` }}></tr>`}
        ${rows.map((index) => {
          const row = at(index);
          if (!row) return html`<tr key=${`empty ${index}`} class="row-loading" aria-rowindex=${index + 2}><td colspan=${columns.length}>…</td></tr>`;
          const key = keyOf(row);
          return html`<tr key=${key} aria-rowindex=${index + 2} class=${key === selected ? "selected" : ""}
            onClick=${onOpen && ((event) => event.target.closest("a, button") ? undefined : onOpen(row))}>
            <${Cells} columns=${columns} row=${row} /></tr>`;
        })}
        ${end < total && html`<tr key="below" aria-hidden="true" style=${{ height: `${(total - end) * ROW}px` }}></tr>`}
      </tbody>
    </table>
  </div>`;
}
