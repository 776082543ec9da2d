// Charts as SVG, each with its numbers as a table: nothing is told by a colour alone.

const WIDTH = 420, HEIGHT = 170, PAD_LEFT = 46, PAD_RIGHT = 8, PAD_TOP = 10, PAD_BOTTOM = 34;
const MARKS = ["solid", "outline", "dashed", "dotted"];

function frame(title, unit, low, high, top, parts, marks) {
  const at = (x) => PAD_LEFT + ((WIDTH - PAD_LEFT - PAD_RIGHT) * (x - low)) / (high - low || 1);
  const up = (y) => HEIGHT - PAD_BOTTOM - ((HEIGHT - PAD_TOP - PAD_BOTTOM) * y) / (top || 1);
  const axis = [
    h("line", { x1: PAD_LEFT, x2: WIDTH - PAD_RIGHT, y1: up(0), y2: up(0), class: "axis" }),
    h("text", { x: PAD_LEFT, y: HEIGHT - 20 }, marks ? marks[0] : number(low, 2)),
    h("text", { x: WIDTH - PAD_RIGHT, y: HEIGHT - 20, "text-anchor": "end" },
      marks ? marks[1] : number(high, 2)),
    h("text", { x: (PAD_LEFT + WIDTH) / 2, y: HEIGHT - 5, "text-anchor": "middle" }, unit),
    h("text", { x: PAD_LEFT - 5, y: up(top) + 10, "text-anchor": "end" }, number(top, 2)),
    h("text", { x: PAD_LEFT - 5, y: up(0), "text-anchor": "end" }, "0"),
  ];
  return h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title },
    axis, parts(at, up));
}

function figure(title, picture, names, header, rows, label = title) {
  const legend = names.length > 1 &&
    h("ul", { class: "legend" }, names.map((name, n) =>
      h("li", {}, h("span", { class: "key " + MARKS[n % 4], "aria-hidden": "true" }), name)));
  return h("figure", {}, h("figcaption", {}, title), picture, legend,
    h("details", {}, h("summary", {}, "Numbers"), table(label, header, rows)));
}

function histogram(shown) {
  const { title, unit, edges, series, means } = shown;
  const names = Object.keys(series);
  const top = Math.max(1, ...Object.values(series).flat());
  const last = edges.length - 1;
  // A bin of a whole number reaches half a step to both sides of it.
  const whole = edges[1] - edges[0] === 1 && edges[0] % 1 !== 0;
  const ends = whole ? [number(edges[0] + 0.5), number(edges[last] - 0.5)] : null;
  const picture = frame(title, unit, edges[0], edges[last], top, (at, up) =>
    names.map((name, n) => steps(edges, series[name], at, up, MARKS[n % 4])), ends);
  const rows = edges.slice(0, -1).map((edge, n) =>
    [whole ? number(edge + 0.5) : number(edge, 3) + " to " + number(edges[n + 1], 3),
      ...names.map((k) => number(series[k][n]))]);
  const mean = names.map((k) => (names.length > 1 ? k + " " : "") + number(means[k], 3)).join(", ");
  return figure(title + ": mean " + mean, picture, names, [unit, ...names], rows);
}

function steps(edges, counts, at, up, mark) {
  let path = "M" + at(edges[0]) + " " + up(0);
  counts.forEach((count, n) => {
    path += "V" + up(count) + "H" + at(edges[n + 1]);
  });
  return h("path", { d: path + "V" + up(0), class: "series " + mark });
}

// Lines through points; `lines` maps names to lists of [x, y], and null y are left out.
// `caption`: the title with what it means. None where there is no line, only a point.
function curves(title, unit, lines, caption = title) {
  const names = Object.keys(lines);
  const points = Object.fromEntries(names.map((k) => [k, lines[k].filter((p) => p[1] !== null)]));
  const every = Object.values(points).flat();
  const xs = every.map((p) => p[0]), ys = every.map((p) => p[1]);
  if (new Set(xs).size < 2) return null;
  const low = Math.min(0, ...ys), top = Math.max(...ys) - low || 1;
  const picture = frame(title, unit, Math.min(...xs), Math.max(...xs), top, (at, up) =>
    names.map((name, n) => h("g", {},
      h("path", { class: "curve " + MARKS[n % 4],
        d: points[name].map((p, i) => (i ? "L" : "M") + at(p[0]) + " " + up(p[1] - low)).join("") }),
      points[name].map((p) => h("circle", { cx: at(p[0]), cy: up(p[1] - low), r: 2.5 },
        h("title", {}, name + " " + number(p[1]) + " at " + number(p[0])))))));
  if (low < 0) picture.querySelectorAll("text")[4].textContent = number(low, 2);
  const at = [...new Set(xs)].sort((a, b) => a - b);
  const rows = at.map((x) => [number(x), ...names.map((k) => {
    const point = points[k].find((p) => p[0] === x);
    return point ? number(point[1]) : "";
  })]);
  return figure(caption, picture, names, [unit, ...names], rows, title);
}

function growth(times, total) {
  const { at: stamps, rows } = times;
  const ends = [dateOf(stamps[0]), dateOf(stamps[stamps.length - 1])];
  const top = Math.max(total || 0, rows[rows.length - 1]);
  const picture = frame("Rows over time", "UTC", stamps[0], stamps[stamps.length - 1], top,
    (at, up) => h("path", { class: "curve solid",
      d: rows.map((y, n) => (n ? "L" : "M") + at(stamps[n]) + " " + up(y)).join("") }), ends);
  return figure("Rows over time", picture, ["rows"], ["UTC", "rows"],
    stamps.map((t, n) => [dateOf(t), number(rows[n])]));
}

// Runs by cost and result, each with its name, and a line through its interval if it has one. Costs
// differ by orders of magnitude, so their axis is logarithmic. `lines`: points in order, with a name.
function frontier(title, unit, points, lines = []) {
  const known = points.filter((p) => p.x > 0 && p.y !== null && p.y !== undefined);
  if (known.length < 2) return null;
  const every = [...known, ...lines.flatMap((line_) => line_.points)];
  const xs = every.map((p) => Math.log(p.x)), ys = every.flatMap((p) => [p.y, p.low ?? p.y, p.high ?? p.y]);
  const room = 0.12 * (Math.max(...xs) - Math.min(...xs)) || 0.1;
  const start = Math.min(...xs) - room, end = Math.max(...xs) + room;
  // Differences are the point: the axis begins near the lowest value, and says where.
  const low = Math.min(...ys) - 0.05 * (Math.max(...ys) - Math.min(...ys) || 1);
  const top = (Math.max(...ys) - low) * 1.12;
  const picture = frame(title, unit + ", logarithmic", start, end, top, (at, up) => {
    const x = (p) => at(Math.log(p.x)), y = (value) => up(value - low);
    return [
      lines.map((line_, n) => h("path", { class: "curve thin " + MARKS[(n + 1) % 4],
        d: line_.points.map((p, i) => (i ? "L" : "M") + x(p) + " " + y(p.y)).join("") },
      h("title", {}, line_.name))),
      known.map((p, n) => [
        p.low !== undefined && h("line", { x1: x(p), x2: x(p), y1: y(p.low), y2: y(p.high), class: "axis" }),
        h("circle", { cx: x(p), cy: y(p.y), r: 3.5, class: "dot" }, h("title", {}, p.name)),
        h("text", { x: x(p) + 6, y: y(p.y) - 4 }, String(n + 1)),
      ]),
    ];
  }, [number(Math.exp(start), 2), number(Math.exp(end), 2)]);
  picture.querySelectorAll("text")[3].textContent = number(low + top, 2);
  picture.querySelectorAll("text")[4].textContent = number(low, 2);
  const names = h("ol", { class: "names" }, known.map((p) => h("li", {}, p.name)));
  const shown = figure(title, picture, ["runs", ...lines.map((line_) => line_.name)], ["run", unit, title, "95 % interval"],
    [...known.map((p) => [p.name, number(p.x), number(p.y), p.low === undefined ? "" : number(p.low) + " to " + number(p.high)]),
      ...lines.flatMap((line_) => line_.points.map((p) => [line_.name + ", " + p.label, number(p.x), number(p.y), ""]))]);
  picture.after(names);
  return shown;
}
