// Tokens as text: shaded by their log-probability, and marked where a revision put them.

// From likely to unlikely, in nats. Steps also differ in their underline.
const STEPS = [-0.1, -0.7, -1.6, -3, -5];
const STEP_NAMES = ["above 90 %", "above 50 %", "above 20 %", "above 5 %", "above 0.7 %", "below 0.7 %"];
let shadingVisible = stored("shading") !== "0";

function step(logp) {
  let n = 0;
  while (n < STEPS.length && logp < STEPS[n]) n++;
  return n;
}

// The texts of ids: [text, number of tokens]. Some tokens are parts of one character.
function pieceAt(trace, ids, at) {
  const text = trace.pieces[ids[at]];
  if (text !== undefined && text.includes("\ufffd")) {
    for (let size = 2; size <= 4 && at + size <= ids.length; size++) {
      const together = trace.pieces[ids.slice(at, at + size).join(",")];
      if (together !== undefined) return [together, size];
    }
  }
  return [text === undefined ? "⟨" + ids[at] + "⟩" : text, 1];
}

// A box with the tokens of a response. `marks` maps positions to functions that wrap the element of
// a token; `logp` are log-probabilities, or null; `from` is the first position that is shown.
function tokenBox(trace, ids, logp, marks, dim = 0) {
  const body = h("div", { class: "text", dir: "auto" });
  growing(body, ids.length, (start, end) => {
    for (let at = start; at < end;) {
      const [text, size] = pieceAt(trace, ids, at);
      const element = token(trace, ids[at], text, logp ? logp[at] : null, at);
      if (at < dim) element.classList.add("dim");
      const mark = marks && marks.get(at);
      add(body, [mark ? mark(element) : element]);
      at += size;
    }
  }, 4000);
  return body;
}

function token(trace, id, text, logp, at) {
  const special = trace.special.has(id);
  if (special && !specialVisible) return h("span", { class: "hidden-token" });
  const known = logp !== null && logp !== undefined;
  const title = `token ${at}, id ${id}` + (known ? `, log-probability ${logp} (${(100 * Math.exp(logp)).toFixed(2)} %)` : "");
  const shade = known && shadingVisible ? " shade" + step(logp) : "";
  const element = h("span", { class: "token" + shade + (special ? " special" : ""), title });
  return writeText(element, text);
}

function shadeLegend() {
  return h("p", { class: "legend-line" }, "Probability of a token under the LM, at temperature 1: ",
    STEP_NAMES.map((name, n) => [h("span", { class: "token shade" + n }, name), " "]));
}

// The tokens that the LM thought least likely, as a table.
function leastLikely(trace) {
  const known = trace.logp.map((value, at) => [value, at]).filter(([value]) => value !== null);
  known.sort((a, b) => a[0] - b[0]);
  return h("details", {}, h("summary", {}, "The least likely tokens"),
    table("The least likely tokens", ["position", "token", "log-probability", "probability"],
      known.slice(0, 10).map(([value, at]) => [at, writeText(h("span", { class: "token" }), pieceAt(trace, trace.ids, at)[0]),
        number(value, 3), (100 * Math.exp(value)).toFixed(2) + " %"])));
}
