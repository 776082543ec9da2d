// Rows: the columns of the index, the words of a row, and whole rows.

const LENGTHS = { f4: Float32Array, i4: Int32Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array };
const DEAD = 1, CHANGED = 2, RIGHT = 4, WRONG = 8, BASE_RIGHT = 16, BASE_WRONG = 32, CUT = 64, ANSWERED = 128;
let run = null;
let columns = null;
let columnsReady = null;
// Blocks of words by number, the oldest first.
const MOST_BLOCKS = 500;
let words = new Map();
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
  words = new Map();
  forgetOrders();
  forgetTerms();
}

// The words of a block of rows, as lines. A list asks for one block many times at once, and it is
// decoded once.
function loadWords(number) {
  if (!words.has(number)) {
    if (words.size >= MOST_BLOCKS) words.delete(words.keys().next().value);
    const block = readWords(number);
    words.set(number, block);
    block.catch(() => words.delete(number));
  }
  return words.get(number);
}

async function readWords(number) {
  const text = new TextDecoder().decode(await load("words/" + number));
  loaded.delete("words/" + number);
  return text.split("\n");
}

// What the list will want, read while the user reads: columns, orders, terms. Of very many rows that
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
  for (let n = 0; n * run.block < run.rows && columns === of; n++) {
    await idle();
    await loadTerms(n);
  }
  document.body.dataset.prepared = "1";
}

function idle() {
  return new Promise((done) => (window.requestIdleCallback ? requestIdleCallback(done, { timeout: 2000 }) : setTimeout(done, 20)));
}

// Lets the browser draw, and take clicks and keys.
function pause() {
  return new Promise((done) => setTimeout(done));
}

async function wordsOf(row) {
  const lines = await loadWords(Math.floor(row / run.words));
  const [id, sample, prompt, gold, answer] = lines[row % run.words].split("\t");
  return { id: id.replace(/\\(.)/g, unescaped), sample: +sample, prompt, gold, answer };
}

function unescaped(_, character) {
  return { t: "\t", n: "\n" }[character] || character;
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
