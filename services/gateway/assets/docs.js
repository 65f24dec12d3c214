// Shows openapi.json and asyncapi.json. Everything that they say is put in as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// What stands between backquotes is code.
function prose(text) {
  const parts = (text ?? "").trim().split("`");
  return parts.map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

function resolve(root, value) {
  let found = value;
  for (let hops = 0; found?.$ref && hops < 10; hops += 1) {
    found = found.$ref
      .replace(/^#\//, "")
      .split("/")
      .reduce((at, key) => at?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], root);
  }
  return found ?? {};
}

function typeName(root, schema) {
  if (schema === true || schema === undefined) return "anything";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    const target = resolve(root, schema);
    return compounds(root, target).length ? name : typeName(root, target);
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices) return [...new Set(choices.map((choice) => typeName(root, choice)))].join(" | ");
  if (schema.allOf?.length === 1) return typeName(root, schema.allOf[0]);
  const types = [schema.type ?? "anything"].flat().map((type) => {
    if (type === "array") return `array of ${typeName(root, schema.items)}`;
    if (type === "object" && typeof schema.additionalProperties === "object") {
      return `object of ${typeName(root, schema.additionalProperties)}`;
    }
    return type;
  });
  const format = schema.format && !/int|double/.test(schema.format) ? ` (${schema.format})` : "";
  return types.join(" | ") + format;
}

// The schemas with members inside a schema.
function compounds(root, schema) {
  if (schema === undefined || typeof schema !== "object") return [];
  const target = resolve(root, schema);
  if (target.properties) return [target];
  const inner = target.oneOf ?? target.anyOf ?? target.allOf ?? (target.items ? [target.items] : []);
  return inner.flatMap((one) => compounds(root, one));
}

// Recursive types end here because a level is made only when it is opened.
function members(root, schema) {
  const list = element("ul", { class: "schema" });
  for (const [name, member] of Object.entries(schema.properties)) {
    const target = resolve(root, member);
    const head = [
      element("code", {}, name),
      " ",
      element("span", { class: "type" }, typeName(root, member)),
      schema.required?.includes(name) ? element("span", { class: "required" }, " required") : null,
    ];
    const note = member.description ?? target.description;
    if (note) head.push(element("span", { class: "note" }, ...prose(note)));
    const inside = compounds(root, member);
    list.append(element("li", {}, ...(inside.length ? [expandable(root, head, inside)] : head)));
  }
  return list;
}

function expandable(root, head, inside, isOpen) {
  const details = element("details", {}, element("summary", {}, ...head));
  const fill = () => {
    if (!details.open || details.childElementCount > 1) return;
    inside.forEach((schema, index) => {
      if (index) details.append(element("p", { class: "dim" }, "or"));
      const note = schema.description && inside.length > 1;
      if (note) details.append(element("p", { class: "dim" }, ...prose(schema.description)));
      details.append(members(root, schema));
    });
  };
  details.addEventListener("toggle", fill);
  details.open = Boolean(isOpen);
  fill();
  return details;
}

function schemaBlock(root, schema, isOpen) {
  const inside = compounds(root, schema);
  const head = [element("span", { class: "type" }, typeName(root, schema))];
  return inside.length ? expandable(root, head, inside, isOpen) : element("p", {}, ...head);
}

function card(id, badge, title, summary, ...parts) {
  const heading = element("h3", { class: "path" }, element("span", { class: `badge ${badge}` }, badge), title);
  const text = summary ? element("p", {}, ...prose(summary)) : null;
  return { id, badge, title, summary, body: element("article", { id }, heading, text, ...parts.flat()) };
}

// --- REST ---------------------------------------------------------------------------------------

function restGroups(api) {
  const groups = new Map((api.tags ?? []).map((tag) => [tag.name, { title: tag.name, note: tag.description, cards: [] }]));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((method) => item[method])) {
      const operation = item[method];
      const tag = operation.tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, { title: tag, cards: [] });
      groups.get(tag).cards.push(restCard(api, method, path, operation));
    }
  }
  return [...groups.values()].filter((group) => group.cards.length);
}

function restCard(api, method, path, operation) {
  const parts = [];
  if (operation.description) parts.push(element("p", { class: "dim" }, ...prose(operation.description)));
  parts.push(element("p", { class: "lock" }, operation.security?.length ? "Needs an access token" : "Needs no token"));
  if (operation.parameters?.length) {
    parts.push(element("h4", {}, "Parameters"), parameters(api, operation.parameters));
  }
  const body = Object.values(operation.requestBody?.content ?? {})[0];
  if (body) parts.push(element("h4", {}, "Body"), schemaBlock(api, body.schema, true));
  parts.push(element("h4", {}, "Answers"), answers(api, operation.responses));
  return card(operation.operationId, method, path, operation.summary, parts);
}

function parameters(api, list) {
  const items = list.map((parameter) =>
    element(
      "li",
      {},
      element("code", {}, parameter.name),
      " ",
      element("span", { class: "type" }, typeName(api, parameter.schema)),
      element("span", { class: "dim" }, ` in ${parameter.in}`),
      parameter.required ? element("span", { class: "required" }, " required") : null,
      parameter.description ? element("span", { class: "note" }, ...prose(parameter.description)) : null,
    ),
  );
  return element("ul", { class: "schema" }, ...items);
}

function answers(api, responses) {
  const items = Object.entries(responses ?? {}).map(([status, response]) => {
    const head = [element("code", {}, status), " ", ...prose(response.description)];
    const schema = Object.values(response.content ?? {})[0]?.schema;
    const inside = compounds(api, schema);
    if (schema && inside.length) head.push(" ", element("span", { class: "type" }, typeName(api, schema)));
    return element("li", {}, ...(inside.length ? [expandable(api, head, inside)] : head));
  });
  return element("ul", { class: "schema" }, ...items);
}

// --- WebSocket and NATS -------------------------------------------------------------------------

function messageOf(api, reference) {
  return resolve(api, resolve(api, reference));
}

function frameGroups(api) {
  const of = (side, title, badge) => {
    const operation = api.operations[`websocket.${side}`];
    const cards = operation.messages.map((reference) => {
      const message = messageOf(api, reference);
      return card(`${side}-${message.name}`, badge, message.name, message.summary, framePart(api, message.payload));
    });
    return { title, note: operation.summary, cards };
  };
  return [of("client", "From client to server", "send"), of("server", "From server to client", "receive")];
}

// Of the frame around the payload, what must be there.
function framePart(api, frame) {
  const { payload, meta } = frame.properties;
  const target = meta.properties?.target_id.description;
  const needs = [
    frame.required.includes("id") ? "`id`" : null,
    target ? `\`meta.target_id\` (${target})` : null,
  ].filter(Boolean);
  const note = needs.length ? element("p", { class: "dim" }, ...prose(`With ${needs.join(" and ")}.`)) : null;
  return [note, element("h4", {}, "Payload"), schemaBlock(api, payload, true)];
}

function natsGroups(api) {
  const groups = new Map();
  for (const [name, operation] of Object.entries(api.operations)) {
    if (name.startsWith("websocket.")) continue;
    const [kind, service] = name.split(".");
    const title = kind === "rpc" ? `Requests to ${service}` : "Broadcasts and events";
    if (!groups.has(title)) groups.set(title, { title, cards: [] });
    groups.get(title).cards.push(natsCard(api, name, operation));
  }
  return [...groups.values()];
}

function natsCard(api, name, operation) {
  const channel = resolve(api, operation.channel);
  const part = (title, references) =>
    references.flatMap((reference) => {
      const message = messageOf(api, reference);
      const more = message.summary && message.summary !== operation.summary ? message.summary : null;
      return [
        element("h4", {}, title ?? message.name),
        more ? element("p", { class: "dim" }, ...prose(more)) : null,
        message.payload ? schemaBlock(api, message.payload, false) : null,
      ];
    });
  const reply = operation.reply ? part("Answer", operation.reply.messages) : [];
  const title = operation.reply ? "Request" : null;
  return card(name, operation.action, channel.address, operation.summary, part(title, operation.messages), reply);
}

// --- the page -----------------------------------------------------------------------------------

function show(groups, filter) {
  const wanted = filter.trim().toLowerCase();
  const matches = (one) => `${one.badge} ${one.title} ${one.summary ?? ""}`.toLowerCase().includes(wanted);
  const [contents, main] = [document.getElementById("contents"), document.getElementById("main")];
  contents.replaceChildren();
  main.replaceChildren();
  for (const group of groups) {
    const cards = group.cards.filter(matches);
    if (!cards.length) continue;
    contents.append(element("strong", {}, group.title));
    const hasMethods = METHODS.includes(cards[0].badge);
    const label = (one) => (hasMethods ? [element("b", {}, one.badge), " ", one.title] : [one.title]);
    contents.append(...cards.map((one) => element("a", { href: `#${one.id}` }, ...label(one))));
    main.append(element("h2", {}, group.title));
    if (group.note) main.append(element("p", { class: "dim" }, ...prose(group.note)));
    main.append(...cards.map((one) => one.body));
  }
  if (!main.childElementCount) main.append(element("p", {}, "Nothing matches."));
}

async function read(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return response.json();
}

async function start() {
  const [rest, async] = await Promise.all([read("openapi.json"), read("asyncapi.json")]);
  const parts = { REST: restGroups(rest), WebSocket: frameGroups(async), NATS: natsGroups(async) };
  const wanted = decodeURIComponent(location.hash.slice(1));
  const holds = (name) => name === wanted || parts[name].some((group) => group.cards.some((one) => one.id === wanted));
  let current = Object.keys(parts).find(holds) ?? "REST";
  const filter = document.getElementById("filter");
  const tabs = document.getElementById("tabs");
  const draw = () => {
    for (const tab of tabs.children) {
      if (tab.textContent === current) tab.setAttribute("aria-current", "true");
      else tab.removeAttribute("aria-current");
    }
    show(parts[current], filter.value);
  };
  for (const name of Object.keys(parts)) {
    const tab = element("button", { type: "button" }, name);
    tab.addEventListener("click", () => {
      current = name;
      draw();
      scrollTo(0, 0);
    });
    tabs.append(tab);
  }
  filter.addEventListener("input", draw);
  draw();
  if (wanted) document.getElementById(wanted)?.scrollIntoView();
}

start().catch((error) => {
  document.getElementById("main").replaceChildren(element("p", {}, `The documents cannot be read: ${error.message}`));
});
