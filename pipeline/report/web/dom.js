// Elements without markup: every text becomes a text node, so that no text is ever run.

const SVG = "http://www.w3.org/2000/svg";
const svgTags = new Set(["svg", "g", "rect", "path", "line", "text", "circle", "title"]);

// h("p", { class: "note", onclick: f }, "text", element, [more]); null and false are left out.
function h(tag, attributes, ...children) {
  const element = svgTags.has(tag)
    ? document.createElementNS(SVG, tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "open") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

function show(...children) {
  const main = document.getElementById("main");
  main.replaceChildren();
  add(main, children);
}

// Read out by screen readers.
function announce(text) {
  document.getElementById("live").textContent = text;
}

function button(text, action, attributes) {
  return h("button", { type: "button", onclick: action, ...attributes }, text);
}

// A part that is opened on demand, and made then: make() returns its content.
function folded(summary, make, attributes) {
  const body = h("div", {});
  let filled = false;
  return h("details", { ontoggle: (event) => {
    if (!event.target.open || filled) return;
    filled = true;
    add(body, [make()]);
  }, ...attributes }, h("summary", {}, summary), body);
}

// `label` names a table whose heading stands above it; other tables have a caption.
function table(caption, header, rows, label = caption) {
  const cells = (row) =>
    row.map((cell, n) => (n ? h("td", {}, cell) : h("th", { scope: "row" }, cell)));
  return h(
    "div", { class: "wide", tabindex: "0", role: "region", "aria-label": label },
    h("table", {}, h("caption", { class: caption ? null : "hidden" }, label),
      h("thead", {}, h("tr", {}, header.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, cells(row))))),
  );
}

// Seconds since 1970 as people read them, in UTC.
function dateOf(seconds) {
  return new Date(1000 * seconds).toISOString().replace("T", " ").slice(0, 19);
}

function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1e6) return scaled(value);
  if (size < 1e-4) return value.toExponential(2);
  return unsigned(value.toFixed(size >= 100 ? 1 : digits));
}

// Without the sign of a number that is rounded to 0.
function unsigned(text) {
  return /[1-9]/.test(text) ? text : text.replace("-", "");
}

function signed(value, digits = 4) {
  return plus(value) + number(value, digits);
}

function plus(value) {
  return value > 0 ? "+" : "";
}

const PREFIXES = ["", "k", "M", "G", "T", "P", "E", "Z"];

// A large number in three digits, such as "81 MFLOP". Where it is alone in its place, `amount` shows
// it with the exact number as its title.
function scaled(value, unit = "") {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  let size = value, n = 0;
  while (Math.abs(size) >= 999.5 && n < PREFIXES.length - 1) {
    size /= 1000;
    n++;
  }
  return `${Number(size.toPrecision(3))} ${PREFIXES[n]}${unit}`.trim();
}

function amount(value, unit = "", sign = "") {
  const exact = typeof value === "number" && !Number.isNaN(value) && value.toLocaleString("en", { maximumFractionDigits: 3 });
  return h("span", { class: "exact", title: exact ? `${sign}${exact} ${unit}`.trim() : null }, exact ? sign + scaled(value, unit) : "–");
}

// Always with these digits: numbers below one another.
function fixed(value, digits = 3) {
  return Number.isNaN(value) ? "–" : unsigned(value.toFixed(digits));
}

function percent(part, whole) {
  return whole ? ((100 * part) / whole).toFixed(1) + " %" : "–";
}

function stored(key, value) {
  try {
    if (value === undefined) return localStorage.getItem("nabla-" + key);
    localStorage.setItem("nabla-" + key, value);
  } catch {
    // A browser may refuse storage: the choice then lasts as long as the page.
  }
  return null;
}
