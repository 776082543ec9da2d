// Pages of trainings, rounds and the duality stage: curves, checkpoints, cards.

function trainingPage() {
  document.title = run.title;
  show(h("h1", {}, write(h("span", {}), run.title)),
    h("p", {}, write(h("span", {}), run.summary)),
    run.failure && h("p", { class: "warning" }, h("strong", {}, "Failed. "), write(h("span", {}), run.failure)),
    run.frame && h("p", {}, h("a", { href: run.frame }, "Open the report of the duality stage")),
    run.frame && h("iframe", { src: run.frame, sandbox: "", title: "Report of the duality stage" }),
    run.curves && h("div", { class: "charts" }, Object.entries(run.curves).map(([name, lines]) =>
      curves(name, run.unit, lines)),
      run.best_of && curves("accuracy of the best of k by reward, fresh samples", "k", run.best_of)),
    (run.tables || []).map((t) => [h("h2", {}, t.title), table(t.title, t.header, t.rows.map((row) =>
      row.map((cell) => (typeof cell === "number" ? number(cell) : write(h("span", {}), cell === null ? "–" : String(cell))))))]),
    run.card && [h("h2", {}, "Card"), box(JSON.stringify(run.card, null, 2), { class: "text code" })],
    run.config && h("details", {}, h("summary", {}, "Settings"), box(JSON.stringify(run.config, null, 2), { class: "text code" })),
    h("p", { class: "note" }, "Written " + run.made + " by nabla " + run.release + "."));
}
