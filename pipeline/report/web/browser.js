// The list of traces: search, filters, order, pages. Its state stands in the address.

let list = { key: null, rows: new Uint32Array(0), query: new URLSearchParams() };
// A search that goes on shows what it has found so far every so many milliseconds.
const PARTLY = 300;
const NUMBERS = new Set(["reward", "gain", "revisions", "tokens"]);
// The order that the heading of a column asks for, the reverse at a second time.
const ORDERS = { reward: ["-reward", "reward"], gain: ["-gain", "gain"], revisions: ["-accepted"], tokens: ["-tokens", "tokens"] };
// What all prompts of a list begin with is left out if it is longer than this.
const MOST_SHARED = 24;

async function browserPage(query) {
  document.title = run.title + " – traces";
  if (!document.getElementById("filters")) {
    show(h("h1", {}, "Traces"), filterForm(query), h("div", { id: "list" }, h("p", {}, "Loading.")));
  }
  await showList(query);
}

// What is asked for while an earlier question is not answered takes its place.
let latest = 0;
async function chosenRows(query, partly) {
  const wanted = new URLSearchParams(query);
  wanted.delete("page");
  const turn_ = ++latest;
  if (list.key === wanted.toString() && list.of === columns && columns) return list.rows;
  const rows = await filtered(query, partly);
  if (turn_ === latest) list = { key: wanted.toString(), rows, query: wanted, of: columns };
  return rows;
}

async function showList(query) {
  const began = performance.now();
  let last = began;
  const turn_ = latest + 1;
  const target = document.getElementById("list");
  const current = () => turn_ === latest && target.isConnected;
  target.setAttribute("aria-busy", "true");
  const rows = await chosenRows(query, async (read, rowsSoFar) => {
    if (!current() || performance.now() - last < PARTLY) return;
    await drawList(target, query, rowsSoFar ? rowsSoFar() : null, read, current);
    await pause();
    last = performance.now();
  });
  await drawList(target, query, rows, run.rows, current);
  if (!current()) return;
  target.setAttribute("aria-busy", "false");
  target.dataset.milliseconds = Math.round(performance.now() - began);
  announce(`${rows.length} of ${run.rows} rows`);
}

// Draws a page of the list. Of a search that goes on `rows` are those of the `read` first rows.
async function drawList(target, query, rows, read, current) {
  const busy = read < run.rows && h("p", { class: "count" }, `Searching: ${percent(read, run.rows)} of the rows were looked at.`);
  const found = rows || [];
  const pages = Math.max(1, Math.ceil(found.length / PAGE_ROWS));
  const page = Math.min(pages, Math.max(1, Math.floor(+query.get("page")) || 1));
  const start = (page - 1) * PAGE_ROWS;
  const shown = [...found.slice(start, start + PAGE_ROWS)];
  const words = await Promise.all(shown.map(wordsOf));
  if (!current()) return;
  target.replaceChildren();
  add(target, [
    busy || h("p", { class: "count" }, `${number(found.length)} of ${number(run.rows)} rows`,
      found.length > PAGE_ROWS && `, ${number(start + 1)} to ${number(start + shown.length)} shown`),
    !busy && pages > 1 && pager(page, pages),
    found.length ? listTable(shown, words) : !busy && h("p", {}, "No row passes these filters."),
    !busy && pages > 1 && pager(page, pages),
  ]);
}

function listTable(rows, words) {
  // Where one run is chosen its name would take the room of prompts.
  const several = run.arms.length > 1 && !place().query.get("arm");
  // Columns that are empty in all rows would take the room of prompts.
  const rewarded = run.arms.some((arm) => arm.figures.reward), moved = run.arms.some((arm) => arm.figures.proposed || arm.figures.changed);
  const answers = answerName(), shared = sharedStart(words.map((w) => w.prompt));
  const header = ["trace", several && "run", "prompt", "gold", answers, "verdict", rewarded && "reward", rewarded && moved && "gain",
    moved && "revisions", "tokens"].filter(Boolean);
  const body = rows.map((row, n) => {
    const w = words[n];
    const cells = [
      h("th", { scope: "row" }, h("a", { href: traceLink(w.id, w.sample, columns.arm[row]), "data-n": n },
        line(w.id), w.sample ? " #" + w.sample : "")),
      several && h("td", { "data-name": "run" }, line(run.arms[columns.arm[row]].name)),
      h("td", { "data-name": "prompt", class: "prompt", title: spelled(w.prompt) },
        shared > 0 && "… ", line(w.prompt.slice(shared))),
      h("td", { "data-name": "gold" }, line(w.gold)),
      h("td", { "data-name": answers, class: answers === "response" ? answers : null, title: spelled(w.answer) }, answerOf(row, w)),
      h("td", { "data-name": "verdict" }, verdict(columns.flags[row])),
      rewarded && h("td", { "data-name": "reward", class: "number" }, fixed(columns.reward[row])),
      rewarded && moved && h("td", { "data-name": "gain", class: "number" }, (columns.gain[row] > 0 ? "+" : "") + fixed(columns.gain[row])),
      moved && h("td", { "data-name": "revisions", class: "number" },
        columns.proposed[row] ? `${columns.accepted[row]} of ${columns.proposed[row]}` : "–"),
      h("td", { "data-name": "tokens", class: "number" }, number(columns.tokens[row])),
    ].filter(Boolean);
    return h("tr", {}, cells);
  });
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "List of traces" },
    h("table", { class: "traces" }, h("caption", { class: "hidden" }, "Traces"),
      h("thead", {}, h("tr", {}, header.map(headingOf))),
      h("tbody", {}, body)));
}

// The heading of a column; it is a button where the list can be ordered by it.
function headingOf(name) {
  const sort = place().query.get("sort"), keys = ORDERS[name] || [];
  const at = keys.indexOf(sort);
  return h("th", { scope: "col", class: NUMBERS.has(name) ? "number" : null, "aria-sort": at < 0 ? null : sort[0] === "-" ? "descending" : "ascending" },
    keys.length ? button([name, at < 0 ? "" : sort[0] === "-" ? " ↓" : " ↑"].join(""), () => {
      const next = keys[at + 1] || (at < 0 ? keys[0] : "");
      document.querySelector("#filters [name=sort]").value = next;
      setQuery({ sort: next, page: "" });
    }, { class: "heading" }) : name);
}

// Where verifiers extract no answers from free texts, the list shows how responses begin.
function answerName() {
  return run.arms.some((arm) => arm.figures.answered) ? "answer" : "response";
}

function answerOf(row, w) {
  const quoted = w.answer && !(columns.flags[row] & ANSWERED) && answerName() === "answer";
  return quoted ? h("span", { class: "note", title: "No answer was extracted; the response begins so." }, "“", line(w.answer), "”") : line(w.answer);
}

// How many characters, up to the end of a word, all of the texts begin with; 0 where they are few.
function sharedStart(texts) {
  let size = texts.length > 1 ? texts[0].length : 0;
  for (const text of texts) {
    let same = 0;
    while (same < size && text[same] === texts[0][same]) same++;
    size = same;
  }
  const end = texts.length && texts.some((text) => text !== texts[0]) ? texts[0].lastIndexOf(" ", size - 1) + 1 : 0;
  return end > MOST_SHARED ? end : 0;
}

function verdict(flags) {
  if (flags & DEAD) return "✝ dead letter";
  const before = flags & BASE_RIGHT ? "right" : flags & BASE_WRONG ? "wrong" : "";
  const after = flags & RIGHT ? "✓ right" : flags & WRONG ? "✗ wrong" : "not graded";
  const was = before && !after.endsWith(before) ? `, was ${before}` : "";
  return after + was + (flags & CUT ? ", cut" : "");
}

function traceLink(id, sample, arm) {
  const more = new URLSearchParams();
  if (sample) more.set("sample", sample);
  if (arm) more.set("arm", arm);
  const tail = more.toString();
  return "#/trace/" + encodeURIComponent(id) + (tail ? "?" + tail : "");
}

function pager(page, pages) {
  const go = (to) => () => setQuery({ page: to > 1 ? to : "" });
  return h("nav", { class: "pager", "aria-label": "Pages of the list" },
    button("← previous", go(page - 1), { disabled: page <= 1 }),
    h("span", {}, `page ${number(page)} of ${number(pages)}`),
    button("next →", go(page + 1), { disabled: page >= pages }));
}

// Changes the address, and with it the list.
function setQuery(changes) {
  const { query } = place();
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null) query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  location.hash = "#/traces" + (text ? "?" + text : "");
}

let typing = 0;
function filterForm(query) {
  const later = (name) => (event) => {
    clearTimeout(typing);
    const value = event.target.value;
    typing = setTimeout(() => setQuery({ [name]: value, page: "" }), 150);
  };
  const now = (name) => (event) => setQuery({ [name]: event.target.value, page: "" });
  const select = (name, label, options) =>
    h("label", {}, label, h("select", { name, onchange: now(name) },
      options.map(([value, text]) => h("option", { value, selected: (query.get(name) || "") === value }, text))));
  const range = ([name, label]) => h("fieldset", {}, h("legend", {}, label),
    ["min", "max"].map((end) => h("input", { type: "number", step: "any", name: name + "." + end,
      "aria-label": `${label}, ${end === "min" ? "at least" : "at most"}`,
      placeholder: end === "min" ? "at least" : "at most",
      value: query.get(name + "." + end) || "", oninput: later(name + "." + end) })));
  return h("form", { id: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    h("label", { class: "search" }, `Search ids, beginnings of prompts, and ${answerName() === "answer" ? "answers" : "of responses"}`,
      h("input", { type: "search", name: "q", value: query.get("q") || "", oninput: later("q"), onfocus: readAhead })),
    h("div", { class: "choices" },
      Object.entries(CHOICES).map(([name, [label, options]]) => select(name, label, options)),
      run.methods.length > 1 && select("method", "method", [["", "all"], ...run.methods.map((m) => [m, m])]),
      run.arms.length > 1 && select("arm", "run", [["", "all"], ...run.arms.map((a, n) => [String(n), a.name])]),
      run.arms.length > 1 && select("pair", "against " + run.arms[0].name, [["", "all"], ["both", "same prompt in both"],
        ["gained", "right here alone"], ["lost", "wrong here alone"], ["better", "higher reward"],
        ["worse", "lower reward"], ["same", "same reward"]]),
      select("sort", "order", SORTS)),
    h("details", { open: RANGES.some(([k]) => query.get(k + ".min") || query.get(k + ".max")) },
      h("summary", {}, "Ranges"), h("div", { class: "choices" }, RANGES.map(range))),
    button("Clear filters", () => { location.hash = "#/traces"; clearForm(); }));
}

function clearForm() {
  for (const element of document.querySelectorAll("#filters input, #filters select")) element.value = "";
}

// Moves the selection in the list; it is the focus, so that a screen reader follows.
function select(step) {
  const links = [...document.querySelectorAll("#list a[data-n]")];
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + step));
  links[next].focus();
}

function turn(step) {
  const buttons = document.querySelectorAll("#list .pager button");
  if (buttons.length) buttons[step < 0 ? 0 : 1].click();
}
