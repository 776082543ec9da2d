// Charts as SVG, each with its numbers as a table: nothing is told by a colour alone.

const WIDTH = 420, HEIGHT = 170, PAD_LEFT = 46, PAD_RIGHT = 8, PAD_TOP = 10, PAD_BOTTOM = 34;
const MARKS = ["solid", "outline", "dashed", "dotted"];

// `scale`: how many times as large as others the picture is, with letters of the same size.
function frame(title, unit, low, high, top, parts, marks, scale = 1) {
  const width = scale * WIDTH, height = scale * HEIGHT;
  const at = (x) => PAD_LEFT + ((width - PAD_LEFT - PAD_RIGHT) * (x - low)) / (high - low || 1);
  const up = (y) => height - PAD_BOTTOM - ((height - PAD_TOP - PAD_BOTTOM) * y) / (top || 1);
  const axis = [
    h("line", { x1: PAD_LEFT, x2: width - PAD_RIGHT, y1: up(0), y2: up(0), class: "axis" }),
    h("text", { x: PAD_LEFT, y: height - 20 }, marks ? marks[0] : number(low, 2)),
    h("text", { x: width - PAD_RIGHT, y: height - 20, "text-anchor": "end" },
      marks ? marks[1] : number(high, 2)),
    h("text", { x: (PAD_LEFT + width) / 2, y: height - 5, "text-anchor": "middle" }, unit),
    h("text", { x: PAD_LEFT - 5, y: up(top) + 10, "text-anchor": "end" }, number(top, 2)),
    h("text", { x: PAD_LEFT - 5, y: up(0), "text-anchor": "end" }, "0"),
  ];
  return h("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
    axis, parts(at, up));
}

// `keys`: what stands before each name in the legend.
function figure(title, picture, names, header, rows, label = title, keys = boxKey) {
  const legend = names.length > 1 &&
    h("ul", { class: "legend" }, names.map((name, n) => h("li", {}, keys(n), name)));
  return h("figure", {}, h("figcaption", {}, title), picture, legend,
    h("details", {}, h("summary", {}, "Numbers"), table(label, header, rows)));
}

function boxKey(n) {
  return h("span", { class: "key " + MARKS[n % 4], "aria-hidden": "true" });
}

function lineKey(n, kind = "curve") {
  return h("svg", { class: "line-key", viewBox: "0 0 30 10", "aria-hidden": "true" },
    h("path", { class: `${kind} ${MARKS[n % 4]}`, d: "M0 5H30" }));
}

function dotKey() {
  return h("svg", { class: "line-key", viewBox: "0 0 30 10", "aria-hidden": "true" }, h("circle", { cx: 15, cy: 5, r: 3.5 }));
}

function histogram(shown) {
  const { title, unit, edges, series, means, powers } = shown;
  const names = Object.keys(series);
  const top = Math.max(1, ...Object.values(series).flat());
  const last = edges.length - 1;
  // A bin of a whole number reaches half a step to both sides of it.
  const whole = edges[1] - edges[0] === 1 && edges[0] % 1 !== 0;
  // Bins of a logarithm are labelled with the numbers themselves.
  const label = (value, digits) => (powers ? scaled(10 ** value, powers) : number(value, digits));
  const ends = whole ? [number(edges[0] + 0.5), number(edges[last] - 0.5)] : powers ? [label(edges[0]), label(edges[last])] : null;
  const picture = frame(title, unit, edges[0], edges[last], top, (at, up) =>
    names.map((name, n) => steps(edges, series[name], at, up, MARKS[n % 4])), ends);
  const rows = edges.slice(0, -1).map((edge, n) =>
    [whole ? number(edge + 0.5) : label(edge, 3) + " to " + label(edges[n + 1], 3),
      ...names.map((k) => number(series[k][n]))]);
  const mean = names.map((k) => (names.length > 1 ? k + " " : "") + (powers ? scaled(means[k], powers) : number(means[k], 3))).join(", ");
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
  return figure(caption, picture, names, [unit, ...names], rows, title, lineKey);
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
// differ by orders of magnitude, so their axis is logarithmic. `lines`: points in order, with a name; a
// letter stands at the end of each.
// `most`: what no value exceeds.
function frontier(title, unit, points, lines = [], most = Infinity) {
  const known = points.filter((p) => p.x > 0 && p.y !== null && p.y !== undefined);
  if (known.length < 2) return null;
  const every = [...known, ...lines.flatMap((line_) => line_.points)];
  const xs = every.map((p) => Math.log(p.x)), ys = every.flatMap((p) => [p.y, p.low ?? p.y, p.high ?? p.y]);
  const room = 0.12 * (Math.max(...xs) - Math.min(...xs)) || 0.1;
  const start = Math.min(...xs) - room, end = Math.max(...xs) + room;
  // Differences are the point: the axis begins near the lowest value, and says where.
  const least = Math.min(...ys), below = least - 0.05 * (Math.max(...ys) - least || 1);
  const low = least >= 0 ? Math.max(0, below) : below;
  const top = Math.min((Math.max(...ys) - low) * 1.12, most - low);
  const scale = known.length > FEW_POINTS && window.innerWidth > 700 ? 2 : 1;
  const picture = frame(title, unit + ", logarithmic", start, end, top, (at, up) => {
    const x = (p) => at(Math.log(p.x)), y = (value) => up(value - low);
    const ends = lines.map((line_) => line_.points[line_.points.length - 1]);
    const texts = [...known.map((_, n) => String(n + 1)), ...lines.map((_, n) => letter(n))];
    const places = labelPlaces([...known, ...ends].map((p) => [x(p), y(p.y)]), texts, scale * WIDTH);
    return [
      lines.map((line_, n) => h("path", { class: "curve thin " + MARKS[(n + 1) % 4],
        d: line_.points.map((p, i) => (i ? "L" : "M") + x(p) + " " + y(p.y)).join("") },
      h("title", {}, line_.name))),
      known.map((p, n) => [
        p.low !== undefined && h("line", { x1: x(p), x2: x(p), y1: y(p.low), y2: y(p.high), class: "axis" }),
        h("circle", { cx: x(p), cy: y(p.y), r: 3.5, class: "dot" }, h("title", {}, p.name)),
      ]),
      texts.map((text, n) => h("text", { x: places[n][0], y: places[n][1] }, text)),
    ];
  }, [number(Math.exp(start), 2), number(Math.exp(end), 2)], scale);
  picture.querySelectorAll("text")[3].textContent = number(low + top, 2);
  picture.querySelectorAll("text")[4].textContent = number(low, 2);
  const names = h("ol", { class: "names" }, known.map((p) => h("li", {}, p.name)));
  const shown = figure(title, picture, ["runs", ...lines.map((line_, n) => `${letter(n)}. ${line_.name}`)], ["run", unit, title, "95 % interval"],
    [...known.map((p) => [p.name, large(p.x), number(p.y), p.low === undefined ? "" : number(p.low) + " to " + number(p.high)]),
      ...lines.flatMap((line_) => line_.points.map((p) => [line_.name + ", " + p.label, large(p.x), number(p.y), ""]))], title,
    (n) => (n ? lineKey(n, "curve thin") : dotKey()));
  picture.after(names);
  return shown;
}

function large(value) {
  return value >= 1e6 ? amount(value) : number(value);
}

const FEW_POINTS = 10, LETTER = 8, LINE = 12;

// a, b, ..., z, aa, bb, ...
function letter(n) {
  return "abcdefghijklmnopqrstuvwxyz"[n % 26].repeat(1 + Math.floor(n / 26));
}

// Where the text of each point stands: beside its point, at the first place that no other point or
// text takes.
function labelPlaces(points, texts, width) {
  const taken = points.map(([x, y]) => [x - 4, y - 4, x + 4, y + 4]);
  return points.map(([x, y], n) => {
    const wide = LETTER * texts[n].length;
    const places = [6, 16, 28, 40].flatMap((far) => [[x + far, y - 4], [x - far - wide, y - 4], [x + far, y + 12],
      [x - far - wide, y + 12], [x - wide / 2, y - far], [x - wide / 2, y + far + 9]]);
    const boxOf = ([left, base]) => [left, base - LINE + 2, left + wide, base + 1];
    const free = places.find((place_) => {
      const [left, top, right, bottom] = boxOf(place_);
      return left > PAD_LEFT && right < width && taken.every((b) => right < b[0] || left > b[2] || bottom < b[1] || top > b[3]);
    }) || places[0];
    taken.push(boxOf(free));
    return free;
  });
}
