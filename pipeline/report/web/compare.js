// Responses of several runs to one prompt, side by side, their differences marked.

// Longer texts are compared by their common beginning and end alone.
const MOST_WORDS = 1500;

// The runs that are shown beside a trace, where there are many; the choice stays from trace to trace.
const beside = new Set([0]);

function otherArms(row) {
  const body = h("div", {}, h("p", {}, "Loading."));
  const fill = async () => {
    await loadColumns();
    const rows = partnersOf(row);
    const alone = rows.filter((r) => r >= 0).length < 2;
    const shown = alone ? h("p", { class: "note" }, "No other run answers this prompt and sample.")
      : rows.length > FEW_ARMS ? await manyArms(rows, armOf(row)) : await sides(rows, armOf(row));
    body.replaceChildren(shown);
  };
  fill().catch((error) => body.replaceChildren(error.message));
  return h("section", { "aria-label": "Side by side", id: "side" }, h("h2", {}, "Side by side"),
    h("p", { class: "note" }, "Struck through: in the response of this page alone. Underlined twice: in the other one alone."), body);
}

// Of many runs a table, and beside this one's response those that are chosen in it.
async function manyArms(rows, mine) {
  const chosen = h("div", {});
  const draw = async () => chosen.replaceChildren(await sides(rows.map((r, n) => (n === mine || beside.has(n) ? r : -1)), mine));
  const words = await Promise.all(rows.map((r) => (r < 0 ? null : wordsOf(r))));
  const check = (n) => h("input", { type: "checkbox", "aria-label": "show beside: " + spelled(run.arms[n].name), checked: n === mine || beside.has(n),
    disabled: n === mine, onchange: (event) => {
      if (event.target.checked) beside.add(n);
      else beside.delete(n);
      draw().catch((error) => chosen.replaceChildren(error.message));
    } });
  const line_ = (r, n) => [[check(n), n === mine ? [line(run.arms[n].name), " (this page)"] : h("a", { href: traceLink(words[n].id, words[n].sample, n) }, line(run.arms[n].name))],
    verdict(columns.flags[r]), answerOf(r, words[n]), fixed(columns.reward[r]), number(columns.tokens[r]), amount(columns.flops[r], "FLOP")];
  const listed = rows.flatMap((r, n) => (r < 0 ? [] : [line_(r, n)]));
  await draw();
  return h("div", {}, h("p", { class: "note" }, "Check runs to show their responses."), table("", ["run", "verdict", answerName(), "reward", "tokens", "cost"], listed, "Answers of all runs; check those to show beside this one"), chosen);
}

async function sides(rows, mine) {
  const traces = await Promise.all(rows.map((r) => (r < 0 ? null : loadRow(r))));
  const here = traces[mine];
  return h("div", { class: "side" }, traces.filter(Boolean).map((trace) => {
    const n = armOf(trace.row);
    const name = h("h3", {}, line(run.arms[n].name), n === mine ? " (this page)" : "");
    const facts = h("p", {}, trace.error !== null ? "dead letter" : [
      `${trace.correct === null ? "not graded" : trace.correct ? "✓ right" : "✗ wrong"}, reward ${number(trace.reward, 3)}, ${number(trace.ids.length)} tokens, `,
      amount(trace.cost && trace.cost.flops, "FLOP")]);
    const link = n !== mine && h("p", {}, h("a", { href: traceLink(trace.id, trace.sample, n) }, "open this trace"));
    const text = trace.error !== null ? trace.error : trace.response;
    return h("div", {}, name, facts, n === mine || here.error !== null || trace.error !== null
      ? box(text) : difference(here.response, trace.response), link);
  }));
}

function difference(old, now) {
  const body = h("div", { class: "text", dir: "auto" });
  const most = SHOWN;
  for (const [kind, text] of differences(old.slice(0, most), now.slice(0, most))) {
    if (kind === 0) writeText(body, text);
    else body.append(writeText(h(kind > 0 ? "ins" : "del", { class: "differs" }), text));
  }
  if (old.length > most || now.length > most)
    add(body, [h("p", { class: "note" }, `Only the first ${number(most)} characters are compared.`)]);
  return body;
}

// Parts of two texts: [0, in both], [-1, in the old one], [1, in the new one].
function differences(old, now) {
  const a = old.match(/\s+|\w+|[^\s\w]/gu) || [], b = now.match(/\s+|\w+|[^\s\w]/gu) || [];
  let start = 0, end = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const middleA = a.slice(start, a.length - end), middleB = b.slice(start, b.length - end);
  const middle = middleA.length > MOST_WORDS || middleB.length > MOST_WORDS
    ? [[-1, middleA.join("")], [1, middleB.join("")]] : longestCommon(middleA, middleB);
  return [[0, a.slice(0, start).join("")], ...middle, [0, a.slice(a.length - end).join("")]].filter((part) => part[1]);
}

function longestCommon(a, b) {
  const width = b.length + 1;
  const best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      best[i * width + j] = a[i] === b[j] ? best[(i + 1) * width + j + 1] + 1
        : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  const parts = [];
  const put = (kind, text) => {
    if (parts.length && parts[parts.length - 1][0] === kind) parts[parts.length - 1][1] += text;
    else parts.push([kind, text]);
  };
  let i = 0, j = 0;
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) { put(0, a[i++]); j++; }
    else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) put(-1, a[i++]);
    else put(1, b[j++]);
  }
  while (i < a.length) put(-1, a[i++]);
  while (j < b.length) put(1, b[j++]);
  return parts;
}
