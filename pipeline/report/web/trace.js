// One trace: prompt, answer beside gold, the response with its revisions, rejected branches, costs.

async function tracePage(id, query) {
  const arm = Math.min(run.arms.length - 1, Math.max(0, +query.get("arm") || 0));
  const sample = query.get("sample"), address = location.hash;
  const row = await findRow(id, sample, arm);
  if (row < 0) {
    document.title = run.title + " – not found";
    show(h("h1", {}, "No such trace"), h("p", {}, "No committed row has the id ", line(id),
      sample === null ? "." : " and sample " + sample + "."), h("p", {}, h("a", { href: "#/traces" }, "All traces")));
    return;
  }
  const trace = await loadRow(row);
  if (location.hash !== address) return;
  document.title = id + " – " + run.title;
  show(
    h("h1", {}, line(trace.id), trace.sample ? ` #${trace.sample}` : ""),
    run.arms.length > 1 && h("p", {}, "Run: ", h("b", {}, line(run.arms[arm].name))),
    neighbours(row),
    trace.error === null ? null : deadLetter(trace),
    switches(trace),
    h("section", { "aria-label": "Prompt" }, h("h2", {}, "Prompt"), promptOf(trace)),
    trace.error === null && answers(trace),
    run.arms.length > 1 && otherArms(row),
    trace.error === null && [responses(trace), revisionsSection(trace), costs(trace)],
    provenance(trace),
  );
}

// Links to the traces before and behind this one in the list; its rows may have to be read first.
function neighbours(row) {
  const nav = h("nav", { class: "pager", "aria-label": "Traces" }, h("a", { href: "#/traces", "data-key": "u" }, "all traces"));
  neighbourLinks(row).then((links) => nav.replaceChildren(...links), (error) => nav.append(error.message));
  return nav;
}

async function neighbourLinks(row) {
  await chosenRows(list.query);
  const at = list.rows.indexOf(row);
  const back = "#/traces" + (list.query.toString() ? "?" + list.query : "");
  const link = async (n, text, key) => {
    if (at < 0 || n < 0 || n >= list.rows.length) return h("span", {}, text);
    const w = await wordsOf(list.rows[n]);
    return h("a", { href: traceLink(w.id, w.sample, columns.arm[list.rows[n]]), "data-key": key }, text);
  };
  return [await link(at - 1, "← previous", "k"),
    h("a", { href: back, "data-key": "u" }, at < 0 ? "all traces" : `trace ${number(at + 1)} of ${number(list.rows.length)} in the list`),
    await link(at + 1, "next →", "j")];
}

function deadLetter(trace) {
  return h("section", { "aria-label": "Error" }, h("p", { class: "warning" },
    h("strong", {}, "Dead letter. "), `No response could be made; this is attempt ${trace.attempt}.`), box(trace.error));
}

function switches(trace) {
  const toggle = (label, key, on, set) => h("label", { class: "switch" },
    h("input", { type: "checkbox", checked: on, "data-key": key, onchange: (event) => {
      set(event.target.checked);
      route();
    } }), label);
  return h("div", { class: "switches" },
    toggle("white space", "w", spacesVisible, (on) => { spacesVisible = on; stored("spaces", on ? "1" : "0"); }),
    toggle("special tokens and the rendered prompt", "s", specialVisible, (on) => { specialVisible = on; stored("special", on ? "1" : "0"); }),
    trace.logp && trace.known && toggle("shading", "l", shadingVisible, (on) => { shadingVisible = on; stored("shading", on ? "1" : "0"); }));
}

function promptOf(trace) {
  if (specialVisible && trace.rendered_prompt !== null)
    return [h("p", { class: "role" }, "as the LM read it"), box(trace.rendered_prompt)];
  return [trace.tools && toolsOf(trace.tools), trace.messages.map((message) => [
    h("p", { class: "role" }, line([message.role, message.name, message.tool_call_id].filter(Boolean).join(" "))),
    message.content || !message.tool_calls ? box(message.content || "") : null,
    (message.tool_calls || []).map((call) => [h("p", { class: "role" }, "calls ", line(functionOf(call).name)), box(json(functionOf(call).arguments))]),
  ])];
}

// The functions that the model was told of, by name; their JSON Schemas on demand.
function toolsOf(tools) {
  return h("details", { class: "tools" },
    h("summary", {}, `${number(tools.length)} ${tools.length === 1 ? "tool" : "tools"}: `, line(tools.map((tool) => functionOf(tool).name).join(", "))),
    tools.map((tool) => box(json(tool))));
}

function functionOf(tool) {
  return tool.function || tool;
}

function json(value) {
  return JSON.stringify(value, null, 2);
}

// Whether a method may have changed the first response.
function isRevised(trace) {
  return trace.revisions.length > 0 || trace.response !== trace.base_response;
}

function answers(trace) {
  const verdict_ = (correct) => (correct === null ? "not graded" : correct ? "✓ right" : "✗ wrong");
  return h("section", { "aria-label": "Answer" }, h("h2", {}, "Answer"), h("dl", { class: "cards" },
    card("Gold", trace.expected_answer === null ? "none" : short(trace.expected_answer)),
    trace.predicted_answer === null ? card("Answer", "none extracted", trace.correct ? "✓ right: the response was graded as a whole" : verdict_(trace.correct))
      : card("Answer", short(trace.predicted_answer), verdict_(trace.correct)),
    isRevised(trace) ? [
      card("First response", verdict_(trace.base_correct), "reward " + number(trace.base_reward, 3)),
      card("Last response", verdict_(trace.correct), `reward ${number(trace.reward, 3)}` +
        (trace.reward !== null && trace.base_reward !== null ? `, gain ${signed(trace.reward - trace.base_reward, 3)}` : ""))]
      : trace.reward !== null && card("Reward", number(trace.reward, 3))));
}

// Answers may be long; the response has all of it.
function short(text) {
  return line(text.length > 120 ? text.slice(0, 120) + "…" : text);
}

function card(name, value, note) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, h("b", {}, value), note && h("small", {}, note)));
}

function responses(trace) {
  const same = trace.response === trace.base_response;
  const marks = trace.known ? markers(trace) : null;
  return h("section", { "aria-label": "Response" }, h("h2", {}, "Response"),
    trace.finish_reason === "length" && h("p", { class: "warning" }, h("strong", {}, "Cut. "), "The response reached the limit of tokens."),
    !trace.known && h("p", { class: "note" }, "The tokens of this response are not known here: its tokenizer was not found."),
    trace.logp === null && h("p", { class: "note" }, "There are no log-probabilities: only a search that reads its last response with the LM stores them."),
    trace.known ? tokenBox(trace, trace.ids, trace.logp, marks) : box(trace.response),
    marks && marks.size > 0 && h("p", { class: "legend-line" }, h("del", {}, "struck"), "→", h("ins", {}, "underlined"), h("sup", {}, "n"),
      " is revision n: it replaced a token, and what stands behind it was written anew. Click it for more."),
    trace.known && trace.logp && [shadingVisible && shadeLegend(), leastLikely(trace)],
    same ? isRevised(trace) && h("p", { class: "note" }, "The first response is the same.")
      : [h("h3", {}, "First response"), trace.known ? tokenBox(trace, trace.base_ids, null, firstMarks(trace)) : box(trace.base_response)]);
}

// Where the accepted revisions stand in the last response: a later one may have replaced the tail
// with an earlier one in it.
function markers(trace) {
  const marks = new Map();
  trace.revisions.forEach((revision, n) => {
    if (!revision.accepted) return;
    for (const position of [...marks.keys()]) if (position >= revision.position) marks.delete(position);
    marks.set(revision.position, (element) => [h("a", { class: "change", href: "#revision-" + (n + 1),
      title: `revision ${n + 1}: reward ${number(revision.reward_before, 3)} to ${number(revision.reward_after, 3)}`,
      onclick: (event) => { event.preventDefault(); openRevision(n); } },
    h("del", {}, tokenText(trace, revision.from_token, revision.from_text)), h("span", { class: "arrow" }, "→"),
    h("ins", {}, element), h("sup", {}, n + 1))]);
  });
  return marks;
}

function firstMarks(trace) {
  const positions = trace.revisions.filter((r) => r.accepted).map((r) => r.position);
  if (!positions.length) return null;
  const at = positions[0];
  return new Map([[at, (element) => h("del", {}, element)]]);
}

function tokenText(trace, id, text) {
  return writeText(h("span", { class: "token" }), trace.known && trace.pieces[id] !== undefined ? trace.pieces[id] : text);
}

function openRevision(n) {
  const element = document.getElementById("revision-" + (n + 1));
  element.open = true;
  element.querySelector("summary").focus();
  element.scrollIntoView({ block: "center" });
}

// The tokens that each revision was proposed for: those of the present response or, in a batch of
// which the best was taken, of the one before; the reward tells.
function responsesBefore(trace) {
  let ids = trace.base_ids, reward = trace.base_reward;
  let last = { ids, reward };
  return trace.revisions.map((revision) => {
    if (ids === null) return null;
    const before = !revision.accepted && revision.reward_before !== reward && revision.reward_before === last.reward ? last.ids : ids;
    if (revision.accepted) {
      last = { ids, reward };
      reward = revision.reward_after;
      ids = revision.tail_token_ids === null ? null : [...ids.slice(0, revision.position), ...revision.tail_token_ids];
    }
    return before;
  });
}

function revisionsSection(trace) {
  if (!trace.revisions.length) return null;
  const before = responsesBefore(trace);
  const accepted = trace.revisions.filter((r) => r.accepted).length;
  return h("section", { "aria-label": "Revisions" }, h("h2", {}, "Revisions"),
    h("p", {}, `${number(trace.revisions.length)} ${trace.revisions.length === 1 ? "revision was" : "revisions were"} tried in this order; ` +
      `${number(accepted)} of them ${accepted === 1 ? "was" : "were"} accepted. Open one for the response that it led to.`),
    button("Open all", () => toggleRevisions(), { "data-key": "r" }),
    trace.revisions.map((revision, n) => revisionDetails(trace, revision, n, before[n])),
    glossary(["revision", "position", "reward", "advantage", "confidence", "gradient norm"]));
}

function toggleRevisions() {
  const all = [...document.querySelectorAll("details.revision")];
  const open = all.some((element) => !element.open);
  for (const element of all) element.open = open;
}

function revisionDetails(trace, revision, n, before) {
  const summary = [`${n + 1}. `, h("b", {}, revision.accepted ? "✓ accepted" : "✗ rejected"), ` at position ${revision.position}: `,
    h("del", {}, tokenText(trace, revision.from_token, revision.from_text)), " → ",
    h("ins", {}, tokenText(trace, revision.to_token, revision.to_text)),
    `, reward ${number(revision.reward_before, 3)} → ${revision.reward_after === null ? "not readable by the judge" : number(revision.reward_after, 3)}`];
  return folded(summary, () => branch(trace, revision, before), { class: "revision", id: "revision-" + (n + 1) });
}

function branch(trace, revision, before) {
  const facts = h("p", { class: "note" }, `advantage ${number(revision.advantage)}, confidence ${number(revision.confidence)}, ` +
    `gradient norm ${number(revision.grad_norm)}`);
  if (revision.tail_token_ids === null || before === null || !trace.known)
    return [facts, h("p", { class: "note" }, "The tokens of this branch are not kept (store.candidates), or their texts are not known.")];
  const ids = [...before.slice(0, revision.position), ...revision.tail_token_ids];
  const marks = new Map([[revision.position, (element) => [
    h("del", {}, tokenText(trace, revision.from_token, revision.from_text)), h("span", { class: "arrow" }, "→"), h("ins", {}, element)]]]);
  return [facts, tokenBox(trace, ids, null, marks, revision.position)];
}

function costs(trace) {
  const names = { rollouts: "rollouts", generated_tokens: "generated tokens", lm_forward: "LM forward passes", lm_backward: "LM backward passes",
    rm_forward: "judge and guide forward passes", rm_backward: "judge and guide backward passes", token_passes: "token passes", flops: "FLOPs",
    paper_calls: "calls as the paper counts them", seconds: "seconds of the engines" };
  return trace.cost && h("section", { "aria-label": "Cost" }, h("h2", {}, "Cost"),
    table("", ["", "count"], Object.entries(names).map(([key, name]) => [name, costOf(key, trace.cost[key])]), "Cost"),
    glossary(["token passes", "FLOP", "calls as the paper counts them", "seconds of the engines"]));
}

function costOf(key, value) {
  if (key === "flops") return amount(value, "FLOP");
  return value >= 1e6 ? amount(value) : number(value);
}

function provenance(trace) {
  const rows = Object.entries(trace.models).map(([role, [name, revision]]) => [role, write(h("span", {}), `${name} ${revision}`)]);
  return h("details", {}, h("summary", {}, "Where it comes from"), table("Where it comes from", ["", ""],
    [...rows, ["method", trace.method || "–"], ["seed", number(trace.seed)], ["attempt", number(trace.attempt)],
      ["worker", write(h("span", {}), trace.worker)], ["made at", trace.created]]));
}
