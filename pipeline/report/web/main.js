// The address chooses the page; keys, the colours of the page, and rows of a run that goes on.

const KEYS = [["o", "overview"], ["t", "list of traces"], ["/", "search"], ["j", "next trace"], ["k", "previous trace"],
  ["n", "next page of the list"], ["p", "previous page of the list"], ["u", "back to the list"], ["r", "open or close all revisions"],
  ["w", "white space"], ["s", "special tokens"], ["l", "shading"], ["?", "these keys"]];
const POLL_SECONDS = 5;

function place() {
  const [path, query] = location.hash.replace(/^#/, "").split("?");
  return { path: path || "/", query: new URLSearchParams(query || "") };
}

async function route() {
  const { path, query } = place();
  header(path);
  try {
    if (run.kind !== "traces") trainingPage();
    else if (path.startsWith("/trace/")) await tracePage(decoded(path.slice(7)), query);
    else if (path === "/traces") await browserPage(query);
    else if (path === "/keys") keysPage();
    else overviewPage();
    document.body.dataset.page = path.split("/")[1] || "overview";
  } catch (error) {
    failed(error);
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function failed(error) {
  show(h("h1", {}, "This page cannot be shown"), h("p", { class: "warning" }, h("strong", {}, "Error. "), error.message));
}

function header(path) {
  const link = (href, text, on) => h("a", { href, "aria-current": on ? "page" : null }, text);
  const top = document.getElementById("top");
  top.replaceChildren();
  add(top, [h("nav", { "aria-label": "Pages" }, h("b", {}, "nabla"),
    run.kind === "traces" && [link("#/", "Overview", path === "/"), link("#/traces", "Traces", path.startsWith("/trace")),
      link("#/keys", "Keys", path === "/keys")]), themeChoice()]);
}

function themeChoice() {
  const now = stored("theme") || "auto";
  return h("label", {}, "colours ", h("select", { name: "theme", onchange: (event) => {
    stored("theme", event.target.value);
    document.documentElement.dataset.theme = event.target.value;
  } }, ["auto", "light", "dark"].map((name) => h("option", { value: name, selected: name === now }, name))));
}

function keysPage() {
  document.title = run.title + " – keys";
  show(h("h1", {}, "Keys"), table("Keys", ["key", "what it does"], KEYS.map(([key, what]) => [h("kbd", {}, key), what])));
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
  if (field) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const element = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  const onList = document.getElementById("list");
  const actions = {
    o: () => { location.hash = "#/"; }, t: () => { location.hash = "#/traces"; }, "?": () => { location.hash = "#/keys"; },
    "/": () => { if (onList) document.querySelector("#filters [name=q]").focus(); else location.hash = "#/traces"; },
  };
  if (onList) Object.assign(actions, { j: () => select(1), k: () => select(-1), n: () => turn(1), p: () => turn(-1) });
  if (!actions[event.key] && !element) return;
  event.preventDefault();
  if (actions[event.key]) actions[event.key]();
  else element.click();
}

// Says that the server is gone, until it is there again: what is shown would look like the present.
function connected(answers) {
  const lost = document.getElementById("lost");
  if (lost.hidden === answers) return;
  lost.hidden = answers;
  lost.textContent = answers ? "" : "The server does not answer. What is shown was read before; start it again for more.";
}

async function refresh() {
  const now = await loadJson("version").catch(() => null);
  loaded.delete("version");
  connected(now !== null);
  if (now !== null && now.version !== version) {
    forget(now.version);
    forgetRows();
    run = await loadJson("run");
    const focus = document.activeElement && document.activeElement.name;
    const { path } = place();
    if (path === "/" || path === "/traces" || run.kind !== "traces") await route();
    announce(run.rows + " rows");
    if (focus) document.querySelector(`[name="${CSS.escape(focus)}"]`)?.focus();
  }
  setTimeout(refresh, 1000 * POLL_SECONDS);
}

async function start() {
  document.documentElement.dataset.theme = stored("theme") || "auto";
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  });
  run = await loadJson("run");
  version = run.version || 0;
  window.addEventListener("hashchange", async () => {
    const address = location.hash;
    const list_ = document.getElementById("list");
    if (!list_ || place().path !== "/traces") {
      document.getElementById("main").replaceChildren();
      window.scrollTo(0, 0);
    }
    await route();
    document.body.dataset.shown = address;
  });
  window.addEventListener("keydown", pressed);
  await route();
  document.body.dataset.shown = location.hash;
  document.body.dataset.ready = "1";
  // What it cannot read yet is read when it is asked for, which says what is wrong.
  prepare().catch(() => {});
  if (run.version) setTimeout(refresh, 1000 * POLL_SECONDS);
}

start().catch((error) => {
  document.getElementById("main").replaceChildren(h("p", { class: "warning" }, error.message));
});
