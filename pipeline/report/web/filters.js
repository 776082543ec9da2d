// Which rows a list shows, and in which order. What is chosen stands in the address.

const CHOICES = {
  state: ["state", [["", "all"], ["rows", "finished"], ["dead", "dead letters"], ["cut", "cut by length"]]],
  change: ["change", [["", "all"], ["changed", "changed"], ["same", "unchanged"],
    ["accepted", "with an accepted revision"], ["rejected", "all revisions rejected"]]],
  answer: ["answer", [["", "all"], ["right", "right"], ["wrong", "wrong"],
    ["fixed", "wrong made right"], ["broken", "right made wrong"], ["ungraded", "not graded"]]],
};
const RANGES = [["gain", "gain in reward"], ["reward", "reward"], ["tokens", "tokens"],
  ["flops", "FLOPs"]];
const SORTS = [["", "order of the run"], ["-gain", "largest gain"], ["gain", "largest loss"],
  ["-reward", "highest reward"], ["reward", "lowest reward"], ["-tokens", "longest"],
  ["tokens", "shortest"], ["-flops", "most FLOPs"], ["logp", "least certain"],
  ["-accepted", "most accepted revisions"], ["-created", "newest"]];
const PAGE_ROWS = 50;
// More rows than that do not fit beside the 32 bits of a value.
const PLACES = 4194304;
let orders = new Map();

function forgetOrders() {
  orders = new Map();
}

// All rows by a column, numbers that are missing last; "-name" is descending.
function order(key) {
  if (!orders.has(key)) {
    const descending = key[0] === "-";
    const values = columns[descending ? key.slice(1) : key];
    // Value and row in one number of 53 bits: typed numbers sort without a comparison function.
    const keys = new Float64Array(run.rows);
    const finite = new Float32Array(run.rows);
    for (let n = 0; n < run.rows; n++) {
      const value = values[n];
      finite[n] = Number.isNaN(value) ? Infinity : descending ? -value : value;
    }
    const bits = new Int32Array(finite.buffer);
    for (let n = 0; n < run.rows; n++) {
      const whole = bits[n] < 0 ? -2147483648 - bits[n] : bits[n];
      keys[n] = whole * PLACES + n;
    }
    keys.sort();
    const rows = new Uint32Array(run.rows);
    for (let n = 0; n < run.rows; n++) rows[n] = keys[n] - Math.floor(keys[n] / PLACES) * PLACES;
    orders.set(key, rows);
  }
  return orders.get(key);
}

// The rows that the query chooses, in its order. `partly` is called while a search goes on, with how
// many rows were looked at and a function that makes the rows of those that are chosen; null where
// they have another order.
async function filtered(query, partly) {
  await loadColumns();
  const tests = testsOf(query);
  const sort = SORTS.some(([key]) => key === query.get("sort")) ? query.get("sort") : "";
  const found = await searched(query.get("q") || "", partly && ((read, hits, count) =>
    partly(read, sort ? null : () => chosen([...tests, (row) => hits[row] === count], null, read))));
  if (found) tests.push((row) => found[row] === 1);
  return chosen(tests, sort ? order(sort) : null, run.rows);
}

// The first `count` rows, or those of `sorted`, that pass all tests.
function chosen(tests, sorted, count) {
  const rows = new Uint32Array(count);
  let size = 0;
  for (let n = 0; n < count; n++) {
    const row = sorted ? sorted[n] : n;
    if (tests.every((test) => test(row))) rows[size++] = row;
  }
  return rows.subarray(0, size);
}

function testsOf(query) {
  const tests = [flagTest(query), ...rangeTests(query)];
  const arm = query.get("arm"), method = query.get("method");
  if (arm !== null && arm !== "") tests.push((row) => columns.arm[row] === +arm);
  if (method) {
    const wanted = run.methods.indexOf(method);
    tests.push((row) => columns.method[row] === wanted);
  }
  if (query.get("pair")) tests.push(pairTest(query.get("pair")));
  return tests;
}

function flagTest(query) {
  let all = 0, none = 0, rejected = false, ungraded = false;
  const state = query.get("state"), change = query.get("change"), answer = query.get("answer");
  if (state === "rows") none |= DEAD;
  if (state === "dead") all |= DEAD;
  if (state === "cut") all |= CUT;
  if (change === "changed") all |= CHANGED;
  if (change === "same") none |= CHANGED | DEAD;
  if (change === "rejected") rejected = true;
  if (answer === "right" || answer === "fixed") all |= RIGHT;
  if (answer === "wrong" || answer === "broken") all |= WRONG;
  if (answer === "fixed") all |= BASE_WRONG;
  if (answer === "broken") all |= BASE_RIGHT;
  if (answer === "ungraded") ungraded = true;
  const { flags, accepted, proposed } = columns;
  return (row) =>
    (flags[row] & all) === all && (flags[row] & none) === 0 &&
    (change !== "accepted" || accepted[row] > 0) &&
    (!rejected || (proposed[row] > 0 && accepted[row] === 0)) &&
    (!ungraded || (flags[row] & (RIGHT | WRONG | DEAD)) === 0);
}

function rangeTests(query) {
  const tests = [];
  for (const [name] of RANGES) {
    const values = columns[name];
    const low = bound(query.get(name + ".min")), high = bound(query.get(name + ".max"));
    if (low !== null) tests.push((row) => values[row] >= low);
    if (high !== null) tests.push((row) => values[row] <= high);
    // A dead letter has no numbers.
    if (low !== null || high !== null) tests.push((row) => (columns.flags[row] & DEAD) === 0);
  }
  return tests;
}

function bound(text) {
  return text === null || text.trim() === "" || Number.isNaN(+text) ? null : +text;
}

// Rows of the second run that differ from the first one in this way.
function pairTest(kind) {
  const { flags, reward } = columns;
  const first = (row) => (columns.arm[row] > 0 ? pairs[row] : -1);
  const tests = {
    both: (row, other) => other >= 0,
    gained: (row, other) => flags[row] & RIGHT && flags[other] & WRONG,
    lost: (row, other) => flags[row] & WRONG && flags[other] & RIGHT,
    better: (row, other) => reward[row] > reward[other],
    worse: (row, other) => reward[row] < reward[other],
    same: (row, other) => reward[row] === reward[other],
  };
  const test = tests[kind] || tests.both;
  return (row) => {
    const other = first(row);
    return other >= 0 && Boolean(test(row, other));
  };
}
