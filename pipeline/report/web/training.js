// Pages of trainings, rounds and the duality stage: curves, checkpoints, cards.

// What the keys of figures mean; they are those of cards and of history.json.
const MEANINGS = {
  loss: "loss on the rows that are trained on", held_out_loss: "loss on held-out rows",
  selection_score: "what checkpoints are compared by, the highest is delivered",
  accuracy: "share of validation answers that are right", reward: "mean reward on validation prompts",
  stopped: "share of responses that end by themselves", tokens: "tokens a response", failed: "prompts that could not be answered",
  best_of: "accuracy of the best of all fresh samples, by reward", auc: "AUC on held-out answers", fresh_auc: "AUC on fresh samples",
  auc_within_prompts: "AUC among held-out answers to one prompt, mean over prompts", fresh_auc_within_prompts: "AUC among fresh samples of one prompt, mean over prompts",
  searched_auc: "AUC on answers of a search with this judge", scale: "factor on the rewards of the delivered judge",
  top1: "how often the best alternative is found", chance: "top1 of a random choice",
  within: "rank correlation of advantages within a position", across: "rank correlation across positions",
  slope: "true on predicted advantages, 1 where both agree", calibration: "factor on predicted advantages", calls: "calls a response, as the paper counts them",
};

function meaning(name) {
  return MEANINGS[name] ? [line(name), h("small", {}, ": " + MEANINGS[name])] : line(name);
}

function trainingPage() {
  document.title = run.title;
  const drawn = Object.entries(run.curves || {}).map(([name, lines]) => curves(name, run.unit, lines, meaning(name)));
  show(h("h1", {}, write(h("span", {}), run.title)),
    h("p", {}, write(h("span", {}), run.summary)),
    run.failure && h("p", { class: "warning" }, h("strong", {}, "Failed. "), write(h("span", {}), run.failure)),
    run.damaged && h("p", { class: "warning" }, h("strong", {}, "Damage. "), line(run.damaged), " cannot be read."),
    run.frame && h("p", {}, h("a", { href: run.frame }, "Open the report of the duality stage")),
    run.frame && h("iframe", { src: run.frame, sandbox: "", title: "Report of the duality stage" }),
    run.curves && !drawn.some(Boolean) && h("p", { class: "note" }, `There are curves once there are two ${run.unit}s with figures.`),
    h("div", { class: "charts" }, drawn,
      run.best_of && curves("Accuracy of the best of k fresh samples, by reward", "k", run.best_of)),
    (run.tables || []).map(figuresTable),
    run.card && h("details", {}, h("summary", {}, "Card: models, data, settings and versions"),
      box(JSON.stringify(run.card, null, 2), { class: "text code" })),
    run.config && h("details", {}, h("summary", {}, "Settings"), box(JSON.stringify(run.config, null, 2), { class: "text code" })),
    h("p", { class: "note" }, writtenBy()));
}

function figuresTable(t) {
  const known = t.header.filter((name) => MEANINGS[name]);
  const cells = (row) => row.map((cell) => (typeof cell === "number" ? number(cell) : write(h("span", {}), cell === null ? "–" : String(cell))));
  return [h("h2", {}, t.title), table("", t.header, t.rows.map(cells), t.title),
    known.length > 0 && h("details", {}, h("summary", {}, "What these figures are"),
      h("ul", {}, known.map((name) => h("li", {}, meaning(name)))))];
}
