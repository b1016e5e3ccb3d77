// Shows openapi.json. Every text goes into the page as text, never as HTML.

const METHODS = ["get", "post", "put", "patch", "delete"];

/** Makes an element: properties, then children (texts or elements; null is left out). */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== ""));
  return element;
}

/** Turns `code`, **strong** and paragraphs into elements. */
function prose(text) {
  return (text ?? "").split(/\n\n+/).filter(Boolean).map((paragraph) =>
    make("p", {}, paragraph.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
      if (part.startsWith("`")) return make("code", {}, part.slice(1, -1));
      if (part.startsWith("**")) return make("strong", {}, part.slice(2, -2));
      return part;
    })));
}

/** The component that a reference names, or the schema itself. */
function resolve(api, schema) {
  const name = schema.$ref?.split("/").pop();
  return name ? { name, ...api.components.schemas[name] } : schema;
}

/** A schema in a few words: "array of integer, 1 to 7". */
function words(api, schema) {
  if (schema === true || Object.keys(schema).length === 0) return "anything";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const alternatives = schema.oneOf ?? schema.anyOf;
  if (alternatives && !schema.properties) return alternatives.map((one) => words(api, one)).join(" or ");
  const types = [schema.type ?? "object"].flat();
  let text = types.join(" or ");
  if (types.includes("array") && schema.items) text = `array of ${words(api, schema.items)}`;
  const { minimum, maximum, minLength, maxLength, pattern } = schema;
  if (minimum !== undefined && maximum !== undefined) text += `, ${minimum} to ${maximum}`;
  else if (minimum) text += `, at least ${minimum}`;
  if (maxLength !== undefined) text += `, ${minLength ?? 0} to ${maxLength} characters`;
  if (pattern) text += `, matches ${pattern}`;
  if (schema.default !== undefined) text += `, default ${JSON.stringify(schema.default)}`;
  return text;
}

/** The schemas inside a schema that have fields of their own. */
function parts(api, schema) {
  const whole = resolve(api, schema);
  const inner = [whole.allOf, whole.oneOf, whole.anyOf, whole.prefixItems].flatMap((list) => list ?? []);
  const items = whole.items ? [whole.items] : [];
  const values = typeof whole.additionalProperties === "object" ? [whole.additionalProperties] : [];
  return { whole, inner: [...inner, ...items, ...values] };
}

/** Whether there is more to show than words. */
function hasFields(api, schema, seen = new Set()) {
  if (typeof schema !== "object" || seen.has(schema.$ref)) return false;
  const { whole, inner } = parts(api, schema);
  const known = schema.$ref ? new Set([...seen, schema.$ref]) : seen;
  return Boolean(whole.properties) || inner.some((one) => hasFields(api, one, known));
}

/** The fields of a schema. `above` are the components around it, so that none repeats forever. */
function fields(api, schema, above = []) {
  const { whole, inner } = parts(api, schema);
  const within = whole.name ? [...above, whole.name] : above;
  const rows = Object.entries(whole.properties ?? {}).map(([name, field]) => [
    make("dt", {}, make("code", {}, name), " ", make("span", { className: "dim" },
      words(api, field), whole.required?.includes(name) ? "" : " (may be absent)")),
    make("dd", {}, prose(field.description ?? resolve(api, field).description), nested(api, field, within)),
  ]);
  return make("div", { className: "fields" },
    rows.length ? make("dl", {}, rows.flat()) : null,
    inner.map((one) => nested(api, one, within)));
}

/** A schema inside another one, closed at first. */
function nested(api, schema, above) {
  const name = schema.$ref?.split("/").pop();
  if (!hasFields(api, schema) || above.includes(name)) return null;
  const shown = make("details", { className: "schema" }, make("summary", {}, name ?? words(api, schema)));
  // Made when it is opened, because schemas contain each other.
  shown.addEventListener("toggle", () => shown.append(fields(api, schema, above)), { once: true });
  return shown;
}

/** A schema with its fields, for the top of a body or an answer. */
function schemaOf(api, schema) {
  return [
    make("p", { className: "dim" }, words(api, schema)),
    hasFields(api, schema) ? nested(api, schema, []) : null,
  ];
}

function contents(api, content) {
  return Object.entries(content ?? {}).map(([type, { schema }]) =>
    [make("p", {}, make("code", {}, type)), ...schemaOf(api, schema ?? {})]);
}

function parameter(api, one) {
  const schema = one.schema ?? one.content["application/json"].schema;
  const where = one.in === "query" ? "query" : "path, required";
  return [
    make("dt", {}, make("code", {}, one.name), " ",
      make("span", { className: "dim" }, `${where}: ${words(api, schema)}`)),
    make("dd", {}, prose(one.description), nested(api, schema, [])),
  ];
}

function guard(api, operation) {
  if (!operation.security) return null;
  const named = operation.security.flatMap(Object.keys).map((name) => {
    const { description } = api.components.securitySchemes[name];
    return [make("dt", {}, make("code", {}, name)), make("dd", {}, prose(description))];
  });
  return [make("h4", {}, "Authorization: one of"), make("dl", {}, named.flat())];
}

function messages(api, operation) {
  const both = operation["x-websocket-messages"];
  if (!both) return null;
  return [
    make("h4", {}, "Messages from the gateway"), ...schemaOf(api, both.sent),
    make("h4", {}, "Messages to the gateway"), ...schemaOf(api, both.received),
  ];
}

function route(api, path, method, operation) {
  const heading = make("h3", {},
    make("span", { className: `method ${method}` }, method.toUpperCase()), " ",
    make("code", {}, path), " ", make("span", { className: "dim" }, operation.summary));
  const answers = Object.entries(operation.responses).map(([status, answer]) => [
    make("dt", {}, make("strong", {}, status), " ", answer.description),
    make("dd", {}, contents(api, answer.content).flat()),
  ]);
  const body = operation.requestBody;
  const shown = make("details", { className: "route", id: operation.operationId },
    make("summary", {}, heading),
    make("div", {},
      prose(operation.description),
      guard(api, operation),
      operation.parameters.length ? make("h4", {}, "Parameters") : null,
      make("dl", {}, operation.parameters.flatMap((one) => parameter(api, one))),
      body ? [make("h4", {}, "Body"), ...contents(api, body.content).flat()] : null,
      messages(api, operation),
      make("h4", {}, "Answers"),
      make("dl", {}, answers.flat())));
  shown.dataset.words = `${method} ${path} ${operation.summary}`.toLowerCase();
  return shown;
}

/** Opens the route that the URL names. */
function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named?.tagName !== "DETAILS") return;
  named.open = true;
  named.scrollIntoView();
  named.querySelector("summary").focus();
}

function show(api) {
  document.getElementById("version").textContent = api.info.version;
  const main = document.getElementById("content");
  const index = document.getElementById("index");
  const all = Object.entries(api.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => methods[method]).map((method) => [path, method, methods[method]]));
  main.replaceChildren(...prose(api.info.description));
  const groups = api.tags.map((tag) => {
    const routes = all.filter(([, , operation]) => operation.tags.includes(tag.name));
    const heading = make("h2", {}, tag.name);
    const shown = routes.map((one) => route(api, ...one));
    const links = routes.map(([path, method, operation]) => make("li", {},
      make("a", { href: `#${operation.operationId}` },
        make("span", { className: `method ${method}` }, method.toUpperCase()), ` ${path}`)));
    const about = make("section", {}, heading, ...prose(tag.description), ...shown);
    const list = make("div", {}, make("h2", {}, tag.name), make("ul", {}, ...links));
    main.append(about);
    index.append(list);
    return { about, list, shown, links };
  });
  const filter = document.getElementById("filter");
  filter.addEventListener("input", () => {
    const sought = filter.value.trim().toLowerCase();
    for (const { about, list, shown, links } of groups) {
      const fits = shown.map((one) => one.dataset.words.includes(sought));
      fits.forEach((fit, at) => { shown[at].hidden = !fit; links[at].hidden = !fit; });
      about.hidden = list.hidden = !fits.includes(true);
    }
  });
  addEventListener("hashchange", openNamed);
  openNamed();
}

try {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`it was answered with ${answer.status}`);
  show(await answer.json());
} catch (error) {
  document.getElementById("state").textContent = `The description could not be loaded: ${error.message}`;
}
