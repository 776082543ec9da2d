// The figures of `nabla compare`: tables with intervals, costs, and what is paired with what. Each arm
// leads to its traces, and each count of a difference to the prompts behind it.

const AXES = { flops: "FLOPs a response", paper_calls: "calls a response", generated_tokens: "generated tokens a response",
  seconds: "engine seconds a response" };

function comparedSection(c) {
  const dead = Object.entries(c.dead || {});
  return h("section", { "aria-label": "Comparison" },
    h("h2", {}, "Comparison"),
    h("p", {}, `${number(c.prompts)} prompts, the same for every arm. Differences are to `, h("b", {}, line(c.reference)),
      ", paired by prompt. Brackets hold 95 % bootstrap intervals over prompts."),
    dead.length > 0 && h("p", { class: "warning" }, h("strong", {}, "Left out. "),
      "Prompts with a dead letter in an arm are left out of all arms: ", line(dead.map(([name, n]) => `${name} ${n}`).join(", ")), "."),
    c.missing.length > 0 && h("p", { class: "note" }, "Without traces here, since their run folders are not there, cannot be read or are too many: ",
      line(c.missing.join(", ")), "."),
    armsTable(c),
    h("p", { class: "note" }, "Log p a token: the mean log-likelihood, in nats, of a token of a " +
      "response under the base LM, as a measure of fluency. Costs are those of one response, without the training of guides, judges and policies. " +
      "Made wrong: of the responses that a revision changed, those that were right before and are wrong now."),
    differencesTable(c),
    h("h3", {}, "What an answer costs"),
    c.arms.length > FEW_POINTS ? chosenChart(c) : h("div", { class: "charts" }, Object.keys(AXES).map((cost) => costChart(c, cost))),
    yieldsTable(c),
    bandsTable(c));
}

function between(values, digits = 3) {
  return values ? h("span", { class: "exact" }, `${number(values[0], digits)} [${number(values[1], digits)}, ${number(values[2], digits)}]`) : "–";
}

function armNumber(name) {
  return run.arms.findIndex((arm) => arm.name === name);
}

// The name of an arm, as a link to its traces where they are here.
function armLink(name) {
  const at = armNumber(name);
  return at < 0 ? line(name) : h("a", { href: "#/traces?" + new URLSearchParams({ arm: at }) }, line(name));
}

function armsTable(c) {
  return table("Arms", ["arm", "method", "accuracy", "reward", "log p a token", "calls", "FLOPs", "tokens", "engine\u00a0s", "made wrong"],
    c.arms.map((arm) => [armLink(arm.name), line(arm.method), between(arm.accuracy), between(arm.reward), between(arm.fluency),
      number(arm.costs.paper_calls, 1), amount(arm.costs.flops, "FLOP"), number(arm.costs.generated_tokens, 1), number(arm.costs.seconds, 3),
      arm.broken == null ? "–" : percent(arm.broken, 1)]));
}

function differencesTable(c) {
  const rows = c.arms.flatMap((arm) => Object.entries(arm.over_reference).map(([measure, d]) => {
    const count = (value, pair) => (armNumber(arm.name) < 1 || !value ? number(value)
      : h("a", { href: "#/traces?" + new URLSearchParams({ arm: armNumber(arm.name), pair, sort: "-gain" }) }, number(value)));
    const [won, lost] = measure === "accuracy" ? ["gained", "lost"] : ["better", "worse"];
    const difference = d.difference.map((x) => signed(x, 3));
    return [armLink(arm.name), measure, `${difference[0]} [${difference[1]}, ${difference[2]}]`, count(d.won, won), count(d.lost, lost),
      d.test, number(d.p, 4), number(d.adjusted, 4)];
  }));
  return rows.length > 0 && [
    table(`Differences to ${c.reference}`, ["arm", "measure", "difference", "won", "lost", "test", "p", "p, Holm"], rows),
    h("p", { class: "note" }, "Won and lost count prompts, and lead to the responses behind them, side by side with those of ",
      line(c.reference), " on each trace's page. Holm's p is adjusted for the number of arms."),
  ];
}

// Of many arms one large chart: of the cost that is chosen, with the curves of the arm that is chosen.
function chosenChart(c) {
  const chart = h("div", {});
  const select = (name, label, options) => h("label", {}, label, h("select", { name, onchange: draw },
    options.map(([value, text]) => h("option", { value }, text))));
  const curved = [...new Set((c.curves || []).map((curve) => curve.arm))];
  const costs = select("cost", "cost", Object.entries(AXES)), arms = select("curves", "curves of", [["", "no arm"], ...curved.map((name) => [name, name])]);
  function draw() {
    const [cost, arm] = [costs, arms].map((label) => label.querySelector("select").value);
    chart.replaceChildren(costChart(c, cost, arm) || h("p", { class: "note" }, "No arm has this cost."));
  }
  draw();
  return [h("div", { class: "choices" }, costs, curved.length > 0 && arms), chart];
}

// The curves of one arm, or of all.
function costChart(c, cost, arm = null) {
  const graded = c.arms.some((arm) => arm.accuracy);
  const points = c.arms.map((arm) => {
    const value = graded ? arm.accuracy : arm.reward;
    return value ? { name: arm.name, x: arm.costs[cost], y: value[0], low: value[1], high: value[2] } : { name: arm.name, x: null, y: null };
  });
  const lines = (graded ? c.curves || [] : []).filter((curve) => (arm === null || curve.arm === arm) && curve.costs && curve.costs[cost] && curve.accuracy).map((curve) => ({
    name: `${curve.arm}: ${curve.kind}`,
    points: curve.accuracy.map((y, n) => ({ x: curve.costs[cost][n], y, label: curve.samples ? "k = " + curve.samples[n] : "" })) }));
  return frontier((graded ? "Accuracy" : "Reward") + " by " + AXES[cost].replace(" a response", ""), AXES[cost], points, lines, graded ? 1 : Infinity);
}

function yieldsTable(c) {
  const measured = c.arms.filter((arm) => arm.yields);
  const [unit, factor] = c.yield_unit;
  const times = (value) => number(value === null ? null : value * factor, 2);
  const rows = measured.map((arm) => [armLink(arm.name), number(arm.samples), number(arm.yields.right, 3),
    times(arm.yields.right_per_gflop), number(arm.yields.right_on_hard, 3), times(arm.yields.hard_per_gflop)]);
  return rows.length > 0 && table("Yield: prompts with a right response",
    ["arm", "samples", "of all", `for 1 ${unit}`, `of those wrong in ${c.reference}`, `of those, for 1 ${unit}`], rows);
}

function bandsTable(c) {
  const graded = c.arms.filter((arm) => Object.keys(arm.bands || {}).length);
  return graded.length > 0 && table(`Accuracy by length and pass rate of ${c.reference}`,
    ["arm", ...Object.entries(c.bands).map(([band, count]) => `${band}, ${number(count)} prompts`)],
    graded.map((arm) => [armLink(arm.name), ...Object.keys(c.bands).map((band) => number(arm.bands[band] ?? null, 3))]));
}
