// Whole rows: columns as JSON, and numbers as typed arrays behind it. See pipeline/report/columns.py.

const ROLES = ["generation", "judge", "guide"];
let chunkStarts = null;

// A whole row, with the texts of its tokens.
async function loadRow(row) {
  if (!chunkStarts) chunkStarts = new Uint32Array(await load("chunks"));
  let low = 0, high = chunkStarts.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (chunkStarts[middle] <= row) low = middle;
    else high = middle;
  }
  return traceOf(chunkOf(await load("rows/" + low)), row - chunkStarts[low], row);
}

// A chunk of bytes: its JSON, and a function of a column's name and a row for each value.
function chunkOf(bytes) {
  const size = new Uint32Array(bytes, 0, 1)[0];
  const chunk = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, size)));
  const columnReaders = {};
  const value = (name, n) => {
    if (!columnReaders[name]) columnReaders[name] = reader(chunk.rows[name], bytes, 4 + size);
    return columnReaders[name](n);
  };
  return { ...chunk, value };
}

// The function from the number of a row to its value in a column; typed arrays begin at `start`.
function reader(column, bytes, start) {
  if (Array.isArray(column)) return (n) => column[n];
  if (column.fields) {
    const fields = Object.entries(column.fields).map(([name, of]) => [name, reader(of, bytes, start)]);
    const missing = new Set(column.missing);
    return (n) => (missing.has(n) ? null : Object.fromEntries(fields.map(([name, read]) => [name, read(n)])));
  }
  const { sizes } = column;
  const starts = [0];
  for (const size of sizes) starts.push(starts[starts.length - 1] + Math.max(0, size));
  const listed = column.type ? typed(column, bytes, start, starts[sizes.length]) : reader(column.of, bytes, start);
  return (n) => (sizes[n] < 0 ? null : Array.from({ length: sizes[n] }, (_, k) => listed(starts[n] + k)));
}

function typed(column, bytes, start, size) {
  const numbers = new LENGTHS[column.type](bytes, start + column.at, size);
  // Three digits are what the writer has kept.
  if (column.type === "f4") return (n) => (Number.isNaN(numbers[n]) ? null : Math.round(1000 * numbers[n]) / 1000);
  return (n) => numbers[n];
}

// Row n of a chunk as the pages know a trace.
function traceOf(chunk, n, row) {
  const trace = { pieces: chunk.pieces, special: new Set(chunk.special), row, models: {} };
  for (const name of Object.keys(chunk.rows)) trace[name] = chunk.value(name, n);
  trace.id = trace.prompt_id;
  trace.ids = trace.response_token_ids;
  trace.base_ids = trace.base_token_ids;
  trace.logp = trace.response_log_probabilities;
  trace.revisions = trace.revisions || [];
  trace.tools = trace.tools === null ? null : JSON.parse(trace.tools);
  trace.messages = (trace.prompt || []).map((turn) => ({ ...turn, tool_calls: turn.tool_calls === null ? null : JSON.parse(turn.tool_calls) }));
  trace.created = dateOf(trace.created) + " UTC";
  for (const role of ROLES)
    if (trace[role + "_model"] !== null) trace.models[role] = [trace[role + "_model"], trace[role + "_revision"]];
  return trace;
}
