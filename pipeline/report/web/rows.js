// Rows: the columns of the index, the words of a row, and whole rows.

const LENGTHS = { f4: Float32Array, i4: Int32Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array };
const DEAD = 1, CHANGED = 2, RIGHT = 4, WRONG = 8, BASE_RIGHT = 16, BASE_WRONG = 32, CUT = 64;
let run = null;
let columns = null;
let columnsReady = null;
let words = [];
let pairs = null;

// The columns of all rows, by name.
function loadColumns() {
  if (!columnsReady) columnsReady = readColumns();
  return columnsReady;
}

async function readColumns() {
  const made = {};
  for (const [name, kind] of run.columns) made[name] = new LENGTHS[kind](run.rows);
  const blocks = Math.ceil(run.rows / run.block);
  for (let n = 0; n < blocks; n++) {
    const start = n * run.block, size = Math.min(run.block, run.rows - start);
    const bytes = await load("index/" + n);
    let offset = 0;
    for (const [name, kind] of run.columns) {
      made[name].set(new LENGTHS[kind](bytes, offset, size), start);
      offset += size * LENGTHS[kind].BYTES_PER_ELEMENT;
    }
    loaded.delete("index/" + n);
  }
  made.gain = new Float32Array(run.rows);
  for (let n = 0; n < run.rows; n++) made.gain[n] = made.reward[n] - made.base[n];
  if (run.arms.length > 1) pairs = new Int32Array(await load("pairs"));
  columns = made;
  return made;
}

function forgetRows() {
  columns = columnsReady = pairs = chunkStarts = null;
  words = [];
  forgetOrders();
}

// The words of a block of rows, as lines. A list asks for one block many times at once, and it is
// decoded once.
function loadWords(number) {
  const all = words;
  if (!all[number]) {
    all[number] = readWords(number);
    all[number].catch(() => delete all[number]);
  }
  return all[number];
}

async function readWords(number) {
  const text = new TextDecoder().decode(await load("words/" + number));
  loaded.delete("words/" + number);
  return { lines: text.split("\n"), text, low: null, starts: null };
}

// A block of words in lower case as one text, and where each row begins in it: for a search.
function searchable(block) {
  if (block.low === null) {
    block.low = block.text.toLowerCase();
    block.starts = new Uint32Array(block.lines.length + 1);
    let at = 0;
    for (let n = 1; n < block.starts.length; n++) block.starts[n] = at = block.low.indexOf("\n", at) + 1;
    block.starts[block.lines.length] = block.low.length + 1;
  }
  return block;
}

// What the list will want, read while the user reads: columns, orders, words. Of very many rows that
// would take the memory of the browser, and of a run that goes on they change.
const MOST_PREPARED = 200000;
async function prepare() {
  if (run.kind !== "traces" || run.version || run.rows > MOST_PREPARED) return;
  await idle();
  const of = await loadColumns();
  for (const [key] of SORTS) {
    await idle();
    if (key) order(key);
  }
  for (let n = 0; n * run.words < run.rows && columns === of; n++) {
    await idle();
    await loadWords(n);
  }
  document.body.dataset.prepared = "1";
}

function idle() {
  return new Promise((done) => (window.requestIdleCallback ? requestIdleCallback(done, { timeout: 2000 }) : setTimeout(done, 20)));
}

async function wordsOf(row) {
  const block = await loadWords(Math.floor(row / run.words));
  const [id, sample, prompt, gold, answer] = block.lines[row % run.words].split("\t");
  return { id: id.replace(/\\(.)/g, unescaped), sample: +sample, prompt, gold, answer };
}

function unescaped(_, character) {
  return { t: "\t", n: "\n" }[character] || character;
}

// So many blocks of words are read at a time.
const AHEAD = 16;

// The row of an id, a sample and a run; -1 where there is none.
async function findRow(id, sample, arm) {
  const wanted = id.replace(/\\/g, "\\\\").replace(/\t/g, "\\t").replace(/\n/g, "\\n");
  const start = run.starts[arm], end = run.starts[arm + 1];
  for (let n = Math.floor(start / run.words), until = Math.ceil(end / run.words); n < until; n++) {
    // The blocks that follow are on their way while this one is looked through.
    for (let next = n; next < Math.min(n + AHEAD, until); next++) loadWords(next);
    const { lines } = await loadWords(n);
    const first = Math.max(0, start - n * run.words), last = Math.min(lines.length, end - n * run.words);
    for (let i = first; i < last; i++)
      if (lines[i].startsWith(wanted + "\t" + (sample === null ? "" : sample + "\t")))
        return n * run.words + i;
  }
  return -1;
}

function armOf(row) {
  let arm = 0;
  while (row >= run.starts[arm + 1]) arm++;
  return arm;
}

// Rows of the same prompt and sample in all runs, by run; -1 where a run has none.
function partnersOf(row) {
  const arm = armOf(row);
  const first = arm === 0 ? row : pairs[row];
  return run.arms.map((_, n) => {
    if (n === arm) return row;
    if (n === 0) return first;
    if (first < 0) return -1;
    const found = partnerIndex(n).get(first);
    return found === undefined ? -1 : found;
  });
}

const partnerIndexes = [];
function partnerIndex(arm) {
  if (partnerIndexes[arm] && partnerIndexes[arm].of === pairs) return partnerIndexes[arm].map;
  const map = new Map();
  for (let row = run.starts[arm]; row < run.starts[arm + 1]; row++)
    if (pairs[row] >= 0) map.set(pairs[row], row);
  partnerIndexes[arm] = { of: pairs, map };
  return map;
}
