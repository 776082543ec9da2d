// Searches, and rows by their ids. See pipeline/report/search.py.

// So many blocks are read at a time.
const AHEAD = 4;
let terms = [];
let lastSearch = { text: "", of: null, rows: null };

function forgetTerms() {
  terms = [];
}

// The terms of a block of rows, in lower case as one text, where each begins in it, and their rows.
function loadTerms(number) {
  const all = terms;
  if (!all[number]) {
    all[number] = readTerms(number);
    all[number].catch(() => delete all[number]);
  }
  return all[number];
}

async function readTerms(number) {
  const bytes = await load("search/" + number);
  loaded.delete("search/" + number);
  const count = new Uint32Array(bytes, 0, 1)[0];
  const sizes = new Uint16Array(bytes, 4, count);
  const text = new TextDecoder().decode(new Uint8Array(bytes, 4 + 2 * count)).toLowerCase();
  const starts = new Uint32Array(count + 1), ends = new Uint32Array(count + 1), bases = [];
  for (let n = 0; n < count; n++) {
    starts[n + 1] = text.indexOf("\n", starts[n]) + 1 || text.length + 1;
    ends[n + 1] = ends[n] + sizes[n];
    if (Math.floor(ends[n] / run.shard) === bases.length) bases.push(ends[n]);
  }
  return { number, text, starts, ends, bases, shards: [] };
}

// The rows of the terms of a shard, each as the distance from the one before.
function loadShard(block, shard) {
  const { shards, number } = block;
  if (!shards[shard]) {
    shards[shard] = load(`search/${number}_${shard}`).then((bytes) => new Uint16Array(bytes));
    shards[shard].then(() => loaded.delete(`search/${number}_${shard}`), () => delete shards[shard]);
  }
  return shards[shard];
}

// The numbers of the terms of a block that hold a word.
function termsWith(block, word) {
  const { text, starts } = block, found = [];
  let term = 0, at = text.indexOf(word);
  while (at >= 0) {
    while (starts[term + 1] <= at) term++;
    found.push(term);
    at = text.indexOf(word, starts[term + 1]);
  }
  return found;
}

// Reads the terms while a search is typed.
async function readAhead() {
  for (let n = 0; n * run.block < run.rows; n++) await loadTerms(n).catch(() => {});
}

// 1 for each row that holds all words of the search inside of its terms; null without a search.
// `progress` is called now and then with the number of rows that were looked at, how many of the
// words each row holds, and the number of words.
async function searched(text, progress) {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean).slice(0, 254);
  if (!wanted.length) return null;
  if (lastSearch.text === text && lastSearch.of === columns) return lastSearch.rows;
  const of = columns, hits = new Uint8Array(run.rows);
  const blocks = Math.ceil(run.rows / run.block);
  for (let n = 0; n < blocks; n += AHEAD) {
    const some = Array.from({ length: Math.min(AHEAD, blocks - n) }, (_, k) => n + k);
    await Promise.all(some.map((number_) => searchBlock(number_, wanted, hits)));
    if (progress) await progress(Math.min(run.rows, (n + AHEAD) * run.block), hits, wanted.length);
  }
  for (let row = 0; row < hits.length; row++) hits[row] = hits[row] === wanted.length ? 1 : 0;
  lastSearch = { text, of, rows: hits };
  return hits;
}

// Counts in `hits` how many of the words each row of a block holds. Of the rows of terms it reads the
// shards with those that are found.
async function searchBlock(number_, wanted, hits) {
  const block = await loadTerms(number_);
  const { ends, bases } = block, first = number_ * run.block;
  const shardOf = (term) => Math.floor(ends[term] / run.shard);
  for (const [n, word] of wanted.entries()) {
    const found = termsWith(block, word);
    const shards = [];
    for (const term of found) shards[shardOf(term)] = true;
    await Promise.all(shards.map(async (_, shard) => { shards[shard] = await loadShard(block, shard); }));
    for (const term of found) {
      const gaps = shards[shardOf(term)], base = bases[shardOf(term)];
      let row = first;
      for (let k = ends[term] - base; k < ends[term + 1] - base; k++) {
        row += gaps[k];
        if (hits[row] === n) hits[row]++;
      }
    }
  }
}

// The row of an id, a sample and a run; -1 where there is none. Without a sample the first one.
async function findRow(id, sample, arm) {
  const name = [...id].slice(0, run.ids.characters).join("");
  const hash = crc32(new TextEncoder().encode(name));
  const both = new Uint32Array(await load("ids/" + (run.ids.bits ? hash >>> (32 - run.ids.bits) : 0)));
  const count = both.length / 2;
  for (let n = lowest(both, count, hash); n < count && both[n] === hash; n++) {
    const row = both[count + n];
    if (row < run.starts[arm] || row >= run.starts[arm + 1]) continue;
    const found = await wordsOf(row);
    if (found.id === name && (sample === null || String(found.sample) === sample)) return row;
  }
  return -1;
}

// The first of `count` numbers in order that is not below `wanted`.
function lowest(numbers, count, wanted) {
  let low = 0, high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
