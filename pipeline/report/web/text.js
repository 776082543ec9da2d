// Texts of others, shown as they are: control characters, marks that turn the direction of writing
// and, on demand, white space are visible and have no effect.

const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/;
const SPACE = /[ \t\n\u00a0\u2000-\u200a\u3000]/;
const SPLIT = new RegExp("(" + HIDDEN.source + "|" + SPACE.source + ")");
const HIDDEN_SPLIT = new RegExp("(" + HIDDEN.source + ")");
// So many characters are shown at first, and again with each "more".
const SHOWN = 20000;
let spacesVisible = stored("spaces") === "1";
let specialVisible = stored("special") === "1";

// Appends a text to an element.
function write(element, text, spaces = false) {
  const parts = text.split(spaces ? SPLIT : HIDDEN_SPLIT);
  for (let n = 0; n < parts.length; n++) {
    if (n % 2 === 0) {
      if (parts[n]) element.append(parts[n]);
    } else element.append(HIDDEN.test(parts[n]) ? hiddenMark(parts[n]) : spaceMark(parts[n]));
  }
  return element;
}

// The same of what a model read or wrote: its white space is visible on demand.
function writeText(element, text) {
  return write(element, text, spacesVisible);
}

function hiddenMark(character) {
  // Not a picture of the character: few fonts have them.
  return h("span", { class: "control" }, codeOf(character));
}

function codeOf(character) {
  return "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
}

// A text for an attribute, such as a title.
function spelled(text) {
  return text.replace(new RegExp(HIDDEN.source, "g"), codeOf);
}

function spaceMark(character) {
  if (character === "\n") return h("span", { class: "space" }, "\u21b5\n");
  if (character === "\t") return h("span", { class: "space" }, "\u2192\t");
  // A line may break behind the mark, as it does behind a space.
  return h("span", { class: "space" }, character === " " ? "\u00b7" : "\u2423", h("wbr"));
}

// A text on one line, such as an id in a list.
function line(text) {
  return write(h("bdi", {}), text.replace(/[\n\t]/g, " "));
}

// A box with a text, in steps where it is long. One with attributes is not of a model.
function box(text, attributes) {
  const body = h("div", { class: "text", dir: "auto", ...attributes });
  growing(body, text.length, (start, end) => (attributes ? write : writeText)(body, text.slice(start, end)));
  return body;
}

// Calls part(start, end) for the first SHOWN of `size` things, and for more on demand.
function growing(body, size, part, step = SHOWN) {
  let end = Math.min(size, step);
  part(0, end);
  if (end >= size) return;
  const more = button("", () => {
    const start = end;
    end = Math.min(size, end + 5 * step);
    controls.remove();
    part(start, end);
    if (end < size) {
      label();
      body.append(controls);
    }
  });
  const label = () => {
    more.textContent = "Show more (" + number(end) + " of " + number(size) + ")";
  };
  const controls = h("div", { class: "more" }, more);
  label();
  body.append(controls);
}
