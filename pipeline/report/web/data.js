// Loading data. A page that was opened from disk may load classic scripts and nothing else, so each
// piece of data is a script that calls nabla.load(name, gzip in base64).

const folder = document.currentScript.src.replace(/[^/]*$/, "");
const served = location.protocol.startsWith("http");
const waiting = new Map();
const loaded = new Map();
// Whole rows are large; the pages need a few of them at a time.
const MOST_CHUNKS = 24;
let version = 0;

window.nabla = {
  load(name, packed) {
    const ready = waiting.get(name);
    waiting.delete(name);
    if (ready) ready(packed);
  },
};

// The bytes of a piece of data, as an ArrayBuffer. Rejects with an Error that names the file.
function load(name) {
  if (!loaded.has(name)) {
    const bytes = request(name).then(unpacked);
    loaded.set(name, bytes);
    bytes.catch(() => loaded.delete(name));
    const chunks = [...loaded.keys()].filter((key) => key.startsWith("rows/"));
    if (chunks.length > MOST_CHUNKS) loaded.delete(chunks[0]);
  }
  return loaded.get(name);
}

async function loadJson(name) {
  return JSON.parse(new TextDecoder().decode(await load(name)));
}

function request(name) {
  return new Promise((resolve, reject) => {
    const element = document.createElement("script");
    const failed = () => reject(new Error("cannot load " + name + ".js: is the folder complete?"));
    waiting.set(name, resolve);
    element.onload = () => {
      element.remove();
      if (waiting.has(name)) failed();
    };
    element.onerror = () => {
      element.remove();
      waiting.delete(name);
      failed();
    };
    element.src = folder + name + ".js" + (served ? "?v=" + version : "");
    document.head.append(element);
  });
}

async function unpacked(packed) {
  const stream = new Blob([fromBase64(packed)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function fromBase64(packed) {
  // Browsers since 2025 do it themselves, ten times as fast.
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(packed);
  const text = atob(packed);
  const bytes = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n++) bytes[n] = text.charCodeAt(n);
  return bytes;
}

// Other rows are served now: what was loaded before is of no use.
function forget(now) {
  version = now;
  loaded.clear();
}
