// The overview of runs: figures, distributions, dead letters, settings; and of several runs their
// paired comparison.

// More runs than that are folded on the overview, and chosen one by one beside a trace.
const FEW_ARMS = 4;

function overviewPage() {
  document.title = run.title + " – overview";
  show(
    h("h1", {}, write(h("span", {}), run.title)),
    run.compared ? comparedSection(run.compared) : run.arms.length > 1 && comparisonSection(),
    run.arms.length > FEW_ARMS && h("h2", {}, "Each run"),
    run.arms.map(run.arms.length > FEW_ARMS ? armFolded : armSection),
    h("p", { class: "note" }, writtenBy()),
  );
}

function writtenBy() {
  return `Written ${dateOf(Date.parse(run.made) / 1000)} UTC by nabla ${run.release}.`;
}

// One of many runs, on demand; what is wrong with it stands outside.
function armFolded(arm, number_) {
  const f = arm.figures;
  const facts = [f.accuracy && "accuracy " + number(f.accuracy.after, 3), f.reward && "reward " + number(f.reward.after, 3),
    number(f.rows) + " rows", isUnfinished(arm) && "not finished", arm.damaged > 0 && "damaged"].filter(Boolean);
  return folded([h("b", {}, line(arm.name)), ": " + facts.join(", ")], () => armSection(arm, number_), { class: "run" });
}

function isUnfinished(arm) {
  return arm.expected !== null && arm.figures.rows + arm.figures.dead < arm.expected;
}

function armSection(arm, number_) {
  const f = arm.figures;
  const several = run.arms.length > 1;
  return h("section", { "aria-label": arm.name, id: "arm-" + number_ },
    several && run.arms.length <= FEW_ARMS && h("h2", {}, write(h("span", {}), arm.name)),
    stateOf(arm),
    f.rows > 0 && startLinks(arm, number_),
    h("dl", { class: "cards" }, cards(arm, f)),
    f.verdicts && f.accuracy && f.changed > 0 && verdictTable(f.verdicts, number_),
    h("h3", {}, "Distributions"),
    h("p", { class: "note" }, "Heights are numbers of rows. A chart's numbers open below it."),
    h("div", { class: "charts" }, f.distributions.map(histogram),
      f.times && growth(f.times, arm.expected)),
    Object.keys(arm.dead).length > 0 && deadTable(arm, number_),
    glossary(termsOf(f)),
    settings(arm),
  );
}

// Where to begin: lists of traces that are worth a look.
function startLinks(arm, number_) {
  const f = arm.figures, several = run.arms.length > 1;
  const lists = [
    ["all traces", {}],
    isMoved(f) && f.reward && ["largest gains in reward", { sort: "-gain" }],
    isMoved(f) && f.verdicts["wrong to right"] > 0 && ["wrong made right", { answer: "fixed" }],
    isMoved(f) && f.verdicts["right to wrong"] > 0 && ["right made wrong", { answer: "broken" }],
    f.accuracy && f.accuracy.after < 1 && ["wrong answers", { answer: "wrong" }],
    f.distributions.some((one) => one.unit === "nats a token") && ["least certain responses", { sort: "logp" }],
  ].filter(Boolean);
  const href = (query) => "#/traces?" + new URLSearchParams(several ? { arm: number_, ...query } : query);
  return h("nav", { class: "pager", "aria-label": "Where to begin" }, h("span", {}, "Look at"),
    lists.map(([name, query]) => h("a", { href: href(query) }, name)));
}

// Methods that draw one response have nothing before it.
function isMoved(f) {
  return f.proposed > 0 || f.changed > 0;
}

function termsOf(f) {
  return [f.accuracy && "accuracy", f.reward && "reward", ...(isMoved(f) ? ["first and last response", "revision", "gain", "95 % interval"] : []),
    "log-probability", "FLOP", "seconds of the engines", "cut by length", "dead letter"].filter(Boolean);
}

function stateOf(arm) {
  const f = arm.figures, have = f.rows + f.dead;
  const of = arm.expected === null ? "" : " of " + number(arm.expected);
  const text = `${arm.job ? "nabla " + arm.job + ", " : ""}${arm.state}: ${number(have)}${of} rows committed.`;
  const unfinished = isUnfinished(arm);
  return [
    h("p", { class: unfinished ? "warning" : "" },
      unfinished && h("strong", {}, "This run is not finished. "), write(h("span", {}), text),
      unfinished && " The figures are those of the committed rows."),
    arm.damaged > 0 && h("p", { class: "warning" }, h("strong", {}, "Damage. "),
      `${arm.damaged} files cannot be read; their rows are left out, and a resume makes them again.`),
    !arm.tokens && f.rows > 0 && h("p", { class: "note" },
      "The tokenizer of the run's LM was not found, so tokens are neither shaded nor marked: " +
      "give tokenizer=FOLDER."),
  ];
}

function cards(arm, f) {
  const made = [];
  const moved = isMoved(f);
  const add = (name, value, note) =>
    made.push(h("div", {}, h("dt", {}, name), h("dd", {}, h("b", {}, value), note && h("small", {}, note))));
  const changed = (name, c) => {
    if (!c) return;
    if (c.before === undefined || !moved) add(name, number(c.after), `${number(c.n)} rows`);
    else add(name, number(c.before) + " → " + number(c.after), interval(c));
  };
  changed("Accuracy", f.accuracy);
  changed("Mean reward", f.reward);
  if (f.proposed) add("Revisions accepted", `${number(f.accepted)} of ${number(f.proposed)}`,
    `${percent(f.accepted, f.proposed)}; ${number(f.revised)} rows revised`);
  if (moved) add("Responses changed", number(f.changed), percent(f.changed, f.rows));
  add("Cost of a row", amount(f.flops, "FLOP"), `${number(f.seconds)} s of the engines`);
  add("Length", number(f.tokens, 1) + " tokens", `${number(f.cut)} cut by length`);
  add("Dead letters", number(f.dead), f.dead ? "see below" : "");
  return made;
}

function interval(c) {
  return `change ${signed(c.change)}, 95 % interval ${signed(c.low)} to ${signed(c.high)}, ${number(c.n)} rows`;
}

function verdictTable(counts, arm) {
  const links = { "wrong to right": "fixed", "right to wrong": "broken" };
  const cell = (from, to) => {
    const name = from + " to " + to;
    return links[name]
      ? h("a", { href: "#/traces?" + new URLSearchParams({ answer: links[name], arm }) }, number(counts[name]))
      : number(counts[name]);
  };
  return table("Answers: first response, then last response", ["", "last right", "last wrong"],
    ["right", "wrong"].map((from) => ["first " + from, cell(from, "right"), cell(from, "wrong")]));
}

function deadTable(arm, number_) {
  return [h("h3", {}, "Dead letters by error"), table("Dead letters", ["error", "rows"],
    Object.entries(arm.dead).map(([name, count]) => [write(h("span", {}), name), number(count)])),
  h("p", {}, h("a", { href: "#/traces?" + new URLSearchParams({ state: "dead", arm: number_ }) },
    "Look at the dead letters"))];
}

function settings(arm) {
  const models = Object.entries(arm.models).map(([role, [name, revision]]) =>
    [role, write(h("span", {}), name), write(h("code", {}), revision)]);
  return h("details", {}, h("summary", {}, "Models and settings"),
    models.length > 0 && table("Models", ["role", "model", "revision"], models),
    Object.keys(arm.config).length ? box(JSON.stringify(arm.config, null, 2), { class: "text code" })
      : h("p", { class: "warning" }, "The settings are not known: config.yaml of the run is missing or damaged."));
}

function comparisonSection() {
  const first = run.arms[0];
  const rows = run.arms.map((arm, n) => {
    const f = arm.figures;
    return [write(h("span", {}), arm.name), number(f.accuracy && f.accuracy.after), number(f.reward && f.reward.after),
      amount(f.flops, "FLOP"), number(f.tokens, 1), number(f.rows)];
  });
  const points = run.arms.map((arm) => ({ name: arm.name, x: arm.figures.flops,
    y: arm.figures.accuracy ? arm.figures.accuracy.after : null }));
  const rewards = run.arms.map((arm) => ({ name: arm.name, x: arm.figures.flops,
    y: arm.figures.reward ? arm.figures.reward.after : null }));
  return h("section", { "aria-label": "Comparison" },
    h("h2", {}, "Comparison"),
    table("All runs, each over its own rows",
      ["run", "accuracy", "reward", "FLOPs a row", "tokens", "rows"], rows),
    run.comparisons.map((c, n) => pairedTable(first, run.arms[n + 1], n + 1, c)),
    h("div", { class: "charts" }, frontier("Accuracy", "FLOPs a row", points),
      frontier("Reward", "FLOPs a row", rewards)));
}

function pairedTable(first, second, arm, c) {
  const row = (name, x, shown = number, difference = signed) => [name, ...(x ? [shown(x.before), shown(x.after), difference(x.change),
    [difference(x.low), " to ", difference(x.high)], number(x.n)] : ["–", "–", "–", "–", "0"])];
  const cost = (value) => amount(value, "FLOP"), more = (value) => amount(value, "FLOP", plus(value));
  const link = (pair, count, text) => h("li", {}, h("a",
    { href: "#/traces?" + new URLSearchParams({ arm, pair, sort: "-gain" }) }, text + ": " + number(count)));
  return [
    h("p", {}, `Paired: ${number(c.pairs)} rows answer the same prompt and sample in both; ` +
      `${number(c.only_first)} are in the first run alone, ${number(c.only_second)} in the second.`),
    table(`The same prompts: ${first.name}, then ${second.name}`,
      ["", first.name, second.name, "difference", "95 % interval", "rows"],
      [row("accuracy", c.accuracy), row("reward", c.reward), row("FLOPs", c.flops, cost, more), row("tokens", c.tokens)]),
    h("ul", { class: "links" }, link("gained", c.only_second_right, "right in the second run alone"),
      link("lost", c.only_first_right, "right in the first run alone")),
  ];
}
