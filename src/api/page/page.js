// What is shown comes from /events: first the whole status, and then what changes in it, as JSON merge patches
// (RFC 7396). What passes a node comes from /tap, its last values and errors from /history, what its file has from /settings, and
// the end of the log from /log. The token stays in this tab.

const LONGEST_PAUSE_MS = 10_000;
const LONGEST_SILENCE_MS = 40_000;
const MOST_MESSAGES = 30;
/// Of a message. A picture twice a second, over a slow link, would leave no room for anything else.
const MOST_BYTES = 4000;
const MOST_PLOTS = 12;
const NEARLY_FULL = 0.9;

const one = (selector) => document.querySelector(selector);

/// The status as it was told last, and when.
let status = null;
let toldAt = 0;
let chosen = null;

// --- What comes over the wire --------------------------------------------------------------------

class Refused extends Error {}

function token() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
}

async function ask(path, signal, method = "GET") {
  const known = token();
  const headers = known ? { Authorization: `Bearer ${known}` } : {};
  // No page of somebody else can send it.
  if (method === "POST") headers["X-Forebay"] = "page";
  // From where the page is, which may be below a path of a proxy's.
  const response = await fetch(path.slice(1), { method, headers, signal, cache: "no-store" });
  if (response.status === 401 || (response.status === 403 && method === "GET")) {
    throw new Refused(response.status === 403 ? await response.text() : known ? "That is not the token." : "");
  }
  if (!response.ok) throw new Error((await response.text()).trim() || `HTTP status ${response.status}`);
  return response;
}

async function* lines(path, signal) {
  const response = await ask(path, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const all = (rest + value).split("\n");
    rest = all.pop();
    yield* all;
  }
}

function merge(target, patch) {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  const merged = target !== null && typeof target === "object" && !Array.isArray(target) ? target : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = merge(merged[key], value);
  }
  return merged;
}

async function follow(stop) {
  let name = "";
  // A line comes every sixteen seconds, also when nothing changes. After a night of sleep, or behind a router that has forgotten
  // the connection, nobody says that none will.
  const watch = () => setTimeout(() => stop.abort("silent"), LONGEST_SILENCE_MS);
  let silence = watch();
  try {
    for await (const line of lines("/events", stop.signal)) {
      clearTimeout(silence);
      silence = watch();
      if (line.startsWith("event: ")) name = line.slice(7);
      if (!line.startsWith("data: ")) continue;
      const data = JSON.parse(line.slice(6));
      // Another program has another page.
      if (name === "status" && status && status.version !== data.version) location.reload();
      status = name === "status" ? data : merge(status, data);
      toldAt = performance.now();
      show();
    }
  } finally {
    clearTimeout(silence);
  }
  throw new Error("the program ended");
}

/// Nobody looks at a page that is hidden, and then nothing is paid for.
async function isSeen() {
  while (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

async function rest(ms) {
  await new Promise((resolve) => setTimeout(resolve, ms));
  await isSeen();
}

async function keepFollowing() {
  for (let pause = 1000; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    await isSeen();
    const stop = new AbortController();
    const hide = () => document.hidden && stop.abort();
    document.addEventListener("visibilitychange", hide);
    const began = performance.now();
    try {
      await follow(stop);
    } catch (error) {
      if (error instanceof Refused) {
        askForToken(error.message);
        return;
      }
      if (!document.hidden) away();
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
    if (document.hidden) { pause = 500; continue; }
    if (performance.now() - began > LONGEST_PAUSE_MS) pause = 1000;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

function askForToken(why) {
  one("#main").hidden = true;
  one("#door").hidden = false;
  one("#door-why").textContent = why;
  one("#state").replaceChildren(make("span", { class: "pill" }, "waits for the token"));
  one("#token").focus();
}

function away() {
  one("#state").replaceChildren(make("span", { class: "pill away" }, "no answer"));
  one("#about").textContent = status ? "What stands here is from before. Tried again." : "Tried again.";
}

// --- Words ---------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const namespace = ["svg", "g", "path", "rect", "text", "title", "polyline"].includes(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function duration(seconds) {
  const steps = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  for (const [size, unit, next, small] of steps) {
    if (seconds < size) continue;
    const rest = Math.floor((seconds % size) / next);
    return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

function brief(seconds) {
  const millis = seconds * 1000;
  if (millis < 10) return `${millis.toFixed(2)} ms`;
  if (millis < 1000) return `${Math.round(millis)} ms`;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : duration(seconds);
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${count >= 100 || unit === 0 ? Math.round(count) : count.toPrecision(3)} ${units[unit]}`;
}

const number = (value) => value.toLocaleString("en");
const rate = (value) => (value === 0 ? "0" : value < 10 ? value.toPrecision(2) : number(Math.round(value)));
const moment = (time) => time.replace("T", " ").replace(/\.\d+/, "");
const words = (name) => name.replaceAll("_", " ");
const ago = (since) => duration(status.running_for_s + (performance.now() - toldAt) / 1000 - since);

function part(name) {
  return [status.nodes, status.connections].find((parts) => Object.hasOwn(parts, name))?.[name];
}

function bar(share, label) {
  const fill = make("i");
  fill.style.width = `${Math.round(share * 100)}%`;
  return make("span", { class: share >= NEARLY_FULL ? "bar high" : "bar", role: "img", "aria-label": label }, fill);
}

// --- The whole -----------------------------------------------------------------------------------

function show() {
  one("#door").hidden = true;
  one("#main").hidden = false;
  const { health, files } = status;
  const word = { well: "well", degraded: "needs a look", not_ready: "nothing runs" }[health.state] ?? health.state;
  one("#state").replaceChildren(make("span", { class: `pill ${health.state}` }, word));
  const facts = [files.folder, `version ${status.version}`, `runs for ${duration(status.running_for_s)}`];
  if (status.memory_bytes) facts.push(`${bytes(status.memory_bytes)} of memory`);
  if (!status.clock_is_set) facts.push("the clock is not set yet");
  one("#about").textContent = facts.join(" · ");
  document.title = `${health.why.length ? `(${health.why.length}) ` : ""}Forebay`;
  const care = health.why.length ? health.why : [whatIsNew()];
  one("#care").className = health.state;
  fill(one("#care ul"), care.map((why) => make("li", {}, ...withButtons(why))));
  showGraph();
  showPart();
  showWaiting();
  showConnections();
  showFiles();
}

/// A text with a button for each node or connection that it names.
function withButtons(text) {
  return text.split(/( |: |, )/).map((word) => (part(word) ? openButton(word) : word));
}

/// When all is well: what has waited for so short a time that it may be over soon.
function whatIsNew() {
  const waits = (it) => ["waiting", "broken"].includes(it.state);
  const waiting = Object.entries({ ...status.connections, ...status.nodes }).filter(([, it]) => waits(it)).map(([name]) => name);
  if (!waiting.length) return "Nothing: all nodes are as they should be.";
  const named = waiting.slice(0, 5).join(", ") + (waiting.length > 5 ? ` and ${waiting.length - 5} more` : "");
  return `Nothing that lasts: ${named} ${waiting.length === 1 ? "has" : "have"} waited for a moment.`;
}

/// Replaces what an element holds only when that is another, so that nobody who reads or selects is disturbed.
function fill(element, children) {
  const made = make(element.localName, {}, ...children);
  if (made.innerHTML !== element.innerHTML) element.replaceChildren(...made.childNodes);
}

function openButton(name) {
  return make("button", { "data-open": name }, name);
}

function showTable(selector, rows) {
  const table = one(selector);
  table.hidden = rows.length === 0;
  fill(table.tBodies[0], rows);
  if (table.nextElementSibling?.classList.contains("none")) table.nextElementSibling.hidden = rows.length > 0;
}

function row(...cells) {
  return make("tr", {}, ...cells);
}

const cell = (...content) => make("td", {}, ...content);
const figure = (text) => make("td", { class: "number" }, text);

/// Where there is little room it is left out.
function wide(cell) {
  cell.classList.add("wide");
  return cell;
}

function showWaiting() {
  const waiting = Object.entries(status.nodes).filter(([, { queue }]) => queue?.messages > 0);
  waiting.sort(([, a], [, b]) => b.queue.used - a.queue.used);
  showTable("#waits", waiting.map(([name, { queue }]) => {
    const share = `${(queue.used * 100).toFixed(queue.used < 0.1 ? 1 : 0)} %`;
    const oldest = queue.oldest_s === undefined ? "" : duration(queue.oldest_s);
    return row(cell(openButton(name)), cell(bar(queue.used, share), ` ${share}`), figure(number(queue.messages)), wide(figure(bytes(queue.bytes))), figure(oldest));
  }));
}

function showConnections() {
  showTable("#connections", Object.entries(status.connections).map(([name, connection]) => {
    const { counts, busy } = connection;
    const load = busy === undefined ? [] : [bar(busy, `${Math.round(busy * 100)} %`), ` ${Math.round(busy * 100)} %`];
    const state = make("span", { class: connection.state }, connection.state);
    const users = Object.values(status.nodes).filter((node) => node.connection === name);
    const overruns = [connection, ...users].reduce((sum, it) => sum + (it.counts.overruns ?? 0), 0);
    return row(cell(openButton(name)), wide(cell(connection.type)), cell(state), cell(...load), wide(figure(number(overruns))), figure(bytes(counts.bytes_in ?? 0)), figure(bytes(counts.bytes_out ?? 0)));
  }));
}

function showFiles() {
  const { files, reloads } = status;
  const runs = files.runs ? `${files.runs[0].toUpperCase()}${files.runs.slice(1)} runs` : "Nothing runs";
  const since = files.since ? `, number ${files.since.number}, content ${files.since.content}, since ${moment(files.since.at)}` : "";
  const refused = files.refused ? ` What stands in the folder now is refused: ${files.refused}.` : "";
  fill(one("#files"), [`${runs}${since}.`, make("span", { class: "broken" }, refused)]);
  const isError = (line) => line.includes(": error[");
  const list = (lines, kind) => lines.map((line) => make("li", { class: kind }, line));
  const [errors, others] = [files.findings.filter(isError), files.findings.filter((line) => !isError(line))];
  fill(one("#findings"), list(errors, "error"));
  one("#warnings").hidden = others.length === 0;
  say(one("#warnings summary"), "Warnings in the folder as it stands");
  fill(one("#warnings ul"), list(others, "warning"));
  one("#reload-now").hidden = !may("reload");
  showTable("#reloads", reloads.map((reload) => {
    const changed = [...(reload.changed ?? []), ...(reload.more_changed ? [`and ${reload.more_changed} more`] : [])];
    const came = [words(reload.result), reload.did, reload.why].filter(Boolean).join(": ");
    return row(figure(reload.number), cell(moment(reload.at)), cell(came), cell(changed.join(", ")), wide(cell(reload.findings)));
  }));
}

// --- What may be changed -------------------------------------------------------------------------

const may = (what) => status.allow?.includes(what) ?? false;

/// Does something, and says what came of it.
async function change(path, hint, came) {
  try {
    hint.textContent = came(await (await ask(path, undefined, "POST")).json());
  } catch (error) {
    hint.textContent = error.message;
  }
}

let isSure = false;

function dropBuffer() {
  const [button, hint] = [one("#drop-buffer"), one("#drop .hint")];
  if (!isSure) {
    isSure = true;
    button.textContent = `Drop ${number(part(chosen).queue.messages)} messages for good`;
    hint.textContent = "Nobody gets them any more. Press again to do it.";
    return;
  }
  askAgain();
  change(`/drop-buffer?node=${encodeURIComponent(chosen)}`, hint, ({ dropped }) => `${number(dropped)} messages were dropped.`);
}

function askAgain() {
  isSure = false;
  one("#drop-buffer").textContent = "Drop what waits";
  one("#drop .hint").textContent = "";
}

// --- The graph -----------------------------------------------------------------------------------

const HEAD = 45;
const BOX = { width: 172, height: 48, across: 64, down: 16, margin: 6 };
let drawn = "";
let boxes = new Map();
let wires = [];

/// `boiler/route.high` is an output of `boiler/route`, and a node's name has no full stop.
const nodeOf = (output) => output.replace(/\.[^./]*$/, "");

function showGraph() {
  const shape = JSON.stringify(Object.entries(status.nodes).map(([name, { type, reads }]) => [name, type, reads]));
  if (shape !== drawn) {
    drawn = shape;
    boxes = new Map();
    wires = [];
    const pipelines = Map.groupBy(Object.keys(status.nodes), (name) => name.split("/")[0]);
    one("#pipelines").replaceChildren(...[...pipelines].map(([name, nodes]) => draw(name, nodes)));
  }
  for (const [name, box] of boxes) paint(name, box);
  for (const wire of wires) paintWire(wire);
}

/// Each node one column behind what it reads, and near to it.
function place(names) {
  const inputs = (name) => (status.nodes[name].reads ?? []).map(nodeOf).filter((input) => status.nodes[input]);
  const columns = new Map();
  const column = (name) => {
    if (!columns.has(name)) {
      columns.set(name, 0);
      columns.set(name, Math.max(0, ...inputs(name).map((input) => column(input) + 1)));
    }
    return columns.get(name);
  };
  names.forEach(column);
  // What goes on stays in its row; what ends there goes below.
  const goesOn = new Set(names.flatMap(inputs));
  const rows = new Map();
  const last = Math.max(...columns.values());
  for (let at = 0; at <= last; at += 1) {
    const wish = (name) => {
      const before = inputs(name).map((input) => rows.get(input));
      return before.length ? before.reduce((sum, row) => sum + row, 0) / before.length : rows.size;
    };
    const here = names.filter((name) => columns.get(name) === at).map((name) => [name, wish(name)]);
    here.sort(([a, rowA], [b, rowB]) => rowA - rowB || goesOn.has(b) - goesOn.has(a));
    let free = 0;
    for (const [name, wished] of here) {
      const row = at === 0 ? free : Math.max(free, Math.round(wished));
      rows.set(name, row);
      free = row + 1;
    }
  }
  return new Map(names.map((name) => [name, {
    x: BOX.margin + columns.get(name) * (BOX.width + BOX.across),
    y: BOX.margin + rows.get(name) * (BOX.height + BOX.down),
  }]));
}

function draw(pipeline, names) {
  const places = place(names);
  const width = Math.max(...[...places.values()].map(({ x }) => x)) + BOX.width + BOX.margin;
  const height = Math.max(...[...places.values()].map(({ y }) => y)) + BOX.height + BOX.down;
  const picture = make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `pipeline ${pipeline}` });
  for (const reader of names) {
    for (const output of status.nodes[reader].reads ?? []) {
      const source = nodeOf(output);
      const [from, to] = [places.get(source), places.get(reader)];
      if (!from) continue;
      const line = make("path", { d: way(from, to) }, make("title", {}, `${output} to ${reader}`));
      picture.append(line);
      wires.push({ line, source, reader, ofErrors: output.endsWith(".errors") });
    }
  }
  for (const name of names) picture.append(box(name, places.get(name)));
  const whole = make("div", { class: "pipeline" }, make("h3", {}, pipeline), picture);
  // What is out of sight is not drawn, and has its room all the same.
  whole.style.containIntrinsicSize = `${width}px ${height + HEAD}px`;
  return whole;
}

/// From box to box; one that passes others goes between the rows.
function way(from, to) {
  const { width, height, across, down } = BOX;
  const [x1, y1, x2, y2] = [from.x + width, from.y + height / 2, to.x, to.y + height / 2];
  const bend = across / 2;
  if (x2 - x1 <= across) return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  const y = (y2 > y1 ? to.y : from.y + height + down) - down / 2;
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x1 + bend} ${y} ${x1 + across} ${y}H${x2 - across}C${x2 - bend} ${y} ${x2 - bend} ${y2} ${x2} ${y2}`;
}

function box(name, { x, y }) {
  const { width, height } = BOX;
  const short = name.slice(name.indexOf("/") + 1);
  const below = make("text", { class: "below", x: 14, y: 37 });
  const level = make("rect", { class: "level", x: 5, y: height - 5, width: 0, height: 4 });
  const mark = make("text", { class: "mark", x: width - 16, y: 20 });
  const title = make("title", {});
  const group = make("g", { class: "node", transform: `translate(${x} ${y})`, tabindex: 0, role: "button", "data-open": name },
    title,
    make("rect", { class: "box", width, height, rx: 6 }),
    make("rect", { class: "edge", width: 5, height, rx: 2 }),
    make("text", { x: 14, y: 20 }, short.length > 21 ? `${short.slice(0, 20)}…` : short),
    below, level, mark);
  boxes.set(name, { group, below, level, mark, title });
  return group;
}

function paint(name, { group, below, level, mark, title }) {
  const node = status.nodes[name];
  const moves = node.per_second && (node.role === "sink" ? node.per_second.sent : Math.max(node.per_second.sent, node.per_second.received));
  const used = node.queue?.used ?? 0;
  set(group, "class", `node ${node.failing ? "broken" : node.state}${chosen === name ? " chosen" : ""}`);
  set(group, "aria-label", `${name}, ${node.type}, ${node.state}${node.why ? `: ${node.why}` : ""}`);
  say(below, `${node.type}${moves === undefined ? "" : ` · ${rate(moves)}/s`}`);
  say(title, node.why ? `${node.state}: ${node.why}` : `${name}: ${node.state}`);
  say(mark, isFresh(node.last_error) ? "!" : "");
  set(level, "class", used >= NEARLY_FULL ? "level high" : "level");
  set(level, "width", Math.round((BOX.width - 10) * used));
}

/// An error of the last minute.
const isFresh = (error) => error !== undefined && status.running_for_s - error.at_s < 60;

function paintWire({ line, source, reader, ofErrors }) {
  const from = status.nodes[source];
  const sent = from.per_second?.sent ?? 0;
  const isStuck = ["waiting", "broken"].includes(status.nodes[reader].state) || from.held_up_by === reader;
  const kind = isStuck ? " stuck" : ofErrors ? " of-errors" : sent > 0 ? " moves" : "";
  set(line, "class", `wire${kind}`);
  // From a crawl at one an hour to a run at a thousand a second.
  line.style.animationDuration = `${Math.min(4, Math.max(0.25, 1.2 - 0.35 * Math.log10(sent || 1e-4))).toFixed(1)}s`;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/// Along the wires, and from row to row: with two hundred nodes, Tab alone is a long way.
function beside(name, key) {
  const reads = (other) => (status.nodes[other].reads ?? []).map(nodeOf);
  if (key === "ArrowLeft") return reads(name).find((input) => boxes.has(input));
  if (key === "ArrowRight") return [...boxes.keys()].find((other) => reads(other).includes(name));
  if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
  const at = ({ group }) => group.getBoundingClientRect();
  const here = at(boxes.get(name));
  const way = key === "ArrowUp" ? -1 : 1;
  const others = [...boxes].map(([other, box]) => [other, at(box)]).filter(([, { top }]) => (top - here.top) * way > 1);
  others.sort(([, a], [, b]) => (a.top - b.top) * way || Math.abs(a.left - here.left) - Math.abs(b.left - here.left));
  // The nearest in the same column, else in the next row.
  return (others.find(([, { left }]) => Math.abs(left - here.left) < 2) ?? others[0])?.[0];
}

// --- One node or connection ----------------------------------------------------------------------

function open(name) {
  if (!part(name)) return;
  const again = chosen === name;
  chosen = name;
  one("#part").hidden = false;
  if (!again) {
    forgetMessages();
    showTapChoice();
    askAgain();
    one("#settings").open = false;
    showHistory(name);
  }
  showPart();
  showGraph();
  one("#part").focus({ preventScroll: true });
  one("#part").scrollIntoView({ block: "nearest" });
}

function close() {
  const box = boxes.get(chosen)?.group;
  chosen = null;
  forgetMessages();
  series = new Map();
  one("#part").hidden = true;
  showGraph();
  box?.focus();
}

function showPart() {
  if (!chosen) return;
  const it = part(chosen);
  if (!it) {
    say(one("#part-title"), `${chosen} is gone`);
    return fill(one("#part-body"), []);
  }
  say(one("#part-title"), chosen);
  one("#drop").hidden = !(may("drop-buffer") && it.role === "sink" && (it.queue?.messages > 0 || one("#drop .hint").textContent));
  const facts = [["what", `${it.role} of type ${it.type}`]];
  facts.push(["state", make("span", { class: it.state }, it.state), it.since_s === undefined ? "" : ` for ${ago(it.since_s)}`]);
  if (it.why) facts.push(["why", it.why]);
  if (it.failing) facts.push(["fails", `all that it does, for ${ago(it.failing.since_s)}: ${number(it.failing.errors)} errors in a row`]);
  for (const trouble of it.lasting ?? []) facts.push(["lasts", trouble]);
  const rule = it.rule ?? it.last_error?.rule;
  if (rule) facts.push(["what to do", make("code", {}, `forebay explain ${rule}`)]);
  if (it.held_up_by) facts.push(["held up by", openButton(it.held_up_by)]);
  if (it.disk_fails) facts.push(["disk", "the disk under its buffer fails"]);
  if (it.connection) facts.push(["connection", openButton(it.connection)]);
  if (it.reads) facts.push(["reads", it.reads.join(", ")]);
  const readers = Object.entries(status.nodes).filter(([, other]) => (other.reads ?? []).some((output) => nodeOf(output) === chosen));
  if (readers.length) facts.push(["read by", readers.map(([name]) => name).join(", ")]);
  if (it.per_second) facts.push(["in a second", `${rate(it.per_second.received)} received, ${rate(it.per_second.sent)} sent`]);
  if (it.latency) facts.push(["takes", `half within ${brief(it.latency.p50_s)}, 90 % within ${brief(it.latency.p90_s)}, 99 % within ${brief(it.latency.p99_s)}, from the source to the other side`]);
  if (it.queue) facts.push(["waits", `${number(it.queue.messages)} messages, ${bytes(it.queue.bytes)}, ${Math.round(it.queue.used * 100)} % of what it may hold`]);
  if (it.busy !== undefined) facts.push(["busy", `${Math.round(it.busy * 100)} % of the time`]);
  const kinds = Object.entries(it.errors_by_kind ?? {}).map(([kind, count]) => `${number(count)} ${words(kind)}`).join(", ");
  const more = { errors: kinds && `: ${kinds}`, bytes_to_disk: it.bytes_to_disk_a_day ? `, at this rate ${bytes(it.bytes_to_disk_a_day)} a day` : "" };
  for (const [name, count] of Object.entries(it.counts)) facts.push([words(name), `${name.startsWith("bytes") ? bytes(count) : number(count)}${more[name] ?? ""}`]);
  fill(one("#part-body"), [make("dl", {}, ...facts.flatMap(([what, ...said]) => [make("dt", {}, what), make("dd", {}, ...said)]))]);
}

// --- Messages as they pass -----------------------------------------------------------------------

let listening = null;

function showTapChoice() {
  const it = part(chosen);
  const choices = [];
  if (it.role !== "connection") {
    if (it.role !== "source") choices.push(["what comes in", "in"]);
    if (it.role !== "sink") choices.push(["what goes out", ""]);
    choices.push(["errors", "output=errors"]);
  }
  one("#tap-choice").replaceChildren(...choices.map(([label, side]) => make("button", { "data-tap": side, "aria-pressed": false }, label)));
  one("#tap-hint").textContent = choices.length ? "Two a second at most are shown; the wire is not slowed." : "Messages pass through nodes.";
}

/// What of a message tells it from others.
function about({ topic, meta, waits }) {
  const more = Object.entries(meta ?? {}).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
  return [waits ? "waits" : "", topic, ...more].filter(Boolean).join(" · ");
}

function forgetMessages() {
  listening?.abort();
  listening = null;
  one("#messages").replaceChildren();
  for (const button of document.querySelectorAll("#tap-choice button")) button.setAttribute("aria-pressed", false);
}

async function listen(button) {
  const wasPressed = button.getAttribute("aria-pressed") === "true";
  forgetMessages();
  if (wasPressed) return;
  button.setAttribute("aria-pressed", true);
  const hint = one("#tap-hint");
  hint.textContent = "Waits for the next message.";
  const stop = (listening = new AbortController());
  try {
    for await (const line of lines(`/tap?node=${encodeURIComponent(chosen)}&${button.dataset.tap}&per_second=2&most_bytes=${MOST_BYTES}`, stop.signal)) {
      if (line) showMessage(JSON.parse(line), hint);
    }
    hint.textContent = "No more: the node was replaced or is gone.";
  } catch (error) {
    if (!stop.signal.aborted) hint.textContent = error.message;
  }
}

function showMessage(message, hint) {
  const { output, left_out: leftOut, time, payload, payload_base64: base64, bytes: all } = message;
  hint.textContent = leftOut ? `${number(leftOut)} more passed before the last one shown.` : "";
  // Of a large one, the beginning.
  const said = all ? `${payload} (${bytes(all)})` : base64 === undefined ? JSON.stringify(payload) : `${base64} (base64)`;
  const item = make("li", {}, make("span", { class: "output" }, `${time.slice(11, 23)} ${output} `), said, make("span", { class: "output" }, ` ${about(message)}`));
  const list = one("#messages");
  list.prepend(item);
  while (list.children.length > MOST_MESSAGES) list.lastChild.remove();
}

// --- Values of the last minutes ------------------------------------------------------------------

let series = new Map();

/// The program keeps one value of each field in a while; a look every ten seconds is enough.
async function showHistory(name) {
  const own = (series = new Map());
  one("#plots").replaceChildren();
  one("#values").replaceChildren();
  one("#plots-hint").textContent = "";
  showErrors([]);
  // Whoever asks has the program keep the next message, which the second look shows.
  for (let pause = 2000; chosen === name && series === own; pause = 10_000) {
    try {
      const { every_s: every, fields, last, errors } = await (await ask(`/history?node=${encodeURIComponent(name)}`)).json();
      if (chosen !== name || series !== own) return;
      const longest = Math.max(0, ...Object.values(fields).map((values) => values.length));
      Object.entries(fields).forEach(([field, values]) => plot(field, values, last?.units?.[field]));
      one("#plots-hint").textContent = last ? `${last.topic}, ${duration(last.ago_s)} ago.${longest ? ` Drawn are the last ${duration(longest * every)}, one value in ${every} s.` : ""}` : "None so far.";
      const { values = {}, units = {}, quality = {} } = last ?? {};
      const others = Object.entries(values).filter(([field]) => !series.has(field));
      fill(one("#values"), others.flatMap(([field, value]) => [make("dt", {}, field), make("dd", {}, `${shown(value)} ${units[field] ?? ""}`, make("span", { class: "broken" }, quality[field] ?? ""))]));
      showErrors(errors);
    } catch {
      // The state says so already.
    }
    await rest(pause);
  }
}

const shown = (value) => (value === null ? "–" : typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value));

function showErrors(errors) {
  one("#errors").hidden = errors.length === 0;
  const said = errors.map(({ text, ago_s: age, times }) => make("li", {}, make("span", { class: "output" }, `${duration(age)} ago${times > 1 ? `, ${number(times)} times` : ""} `), text));
  fill(one("#errors ol"), said);
}

async function showSettings() {
  if (!one("#settings").open || !chosen) return;
  try {
    one("#settings pre").textContent = await (await ask(`/settings?node=${encodeURIComponent(chosen)}`)).text();
  } catch (error) {
    one("#settings pre").textContent = error.message;
  }
}

function plot(name, values, unit = "") {
  if (!series.has(name)) {
    if (series.size === MOST_PLOTS) return;
    const line = make("polyline");
    const now = make("b");
    const picture = make("svg", { width: 180, height: 44, viewBox: "0 0 180 44", role: "img", "aria-label": `the last values of ${name}` }, line);
    one("#plots").append(make("figure", {}, make("figcaption", {}, `${name} `, now), picture));
    series.set(name, { line, now });
  }
  const { line, now } = series.get(name);
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const y = (value) => (high === low ? 22 : 40 - (36 * (value - low)) / (high - low));
  const step = 176 / Math.max(1, values.length - 1);
  const points = values.flatMap((value, at) => (value === null ? [] : [`${(2 + at * step).toFixed(1)},${y(value).toFixed(1)}`]));
  // One value is a line as well.
  line.setAttribute("points", points.length === 1 ? `${points[0]} 178,22` : points.join(" "));
  now.textContent = `${shown(known.at(-1))} ${unit}`;
}

// --- The log -------------------------------------------------------------------------------------

async function showLog() {
  while (one("#log").open) {
    try {
      const pre = one("#log pre");
      const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
      const text = await (await ask("/log")).text();
      say(pre, text || "Nothing was logged yet.");
      if (atEnd) pre.scrollTop = pre.scrollHeight;
    } catch {
      // The state says so already.
    }
    await rest(5000);
  }
}

// --- Who does what -------------------------------------------------------------------------------

document.addEventListener("click", ({ target }) => {
  const opener = target.closest("[data-open]");
  const tap = target.closest("[data-tap]");
  if (opener) open(opener.dataset.open);
  else if (tap) listen(tap);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chosen) close();
  const neighbour = event.target.matches?.(".node") && beside(event.target.dataset.open, event.key);
  if (neighbour) {
    event.preventDefault();
    boxes.get(neighbour).group.focus();
  }
  if (["Enter", " "].includes(event.key) && event.target.matches?.(".node")) {
    event.preventDefault();
    open(event.target.dataset.open);
  }
});
one("#close").addEventListener("click", close);
one("#drop-buffer").addEventListener("click", dropBuffer);
one("#reload-now button").addEventListener("click", () => change("/reload", one("#reload-now .hint"), () => "Asked. What came of it stands below."));
one("#settings").addEventListener("toggle", showSettings);
one("#log").addEventListener("toggle", showLog);
one("#door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", one("#token").value.trim());
  one("#token").value = "";
  one("#door").hidden = true;
  keepFollowing();
});
keepFollowing();
