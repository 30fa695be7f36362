// Requests to the server that this page is from, and to no other.
const place = "lingraft-key";
let key = "";
try { key = sessionStorage.getItem(place) || ""; } catch (error) { console.info("not kept: " + error.name); }

export const useKey = (given) => {
  key = given.trim();
  try { sessionStorage.setItem(place, key); } catch (error) { console.info("not kept: " + error.name); }
};

// What the server refuses, in its own words.
export class Refused extends Error {
  constructor(status, message, seconds) {
    super(message);
    this.status = status;
    this.seconds = seconds; // after which it may be asked again
  }
}

const MOST_TRIES = 5;
const wait = (seconds, signal) => new Promise((resolve, reject) => {
  const left = () => { clearTimeout(timer); reject(new DOMException("stopped", "AbortError")); };
  const timer = setTimeout(() => { signal?.removeEventListener("abort", left); resolve(); }, 1000 * seconds);
  signal?.addEventListener("abort", left, { once: true });
});

const request = async (path, body, signal) => {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const form = body instanceof FormData;
  if (body && !form) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: form ? body : body && JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "the server does not answer; is it still running?");
  }
  if (response.ok) return response;
  const found = await response.json().catch(() => ({}));
  const message = found.error?.message || found.message || `the server answered ${response.status}`;
  throw new Refused(response.status, message, Number(response.headers.get("Retry-After")) || 0);
};

export const get = async (path) => (await request(path)).json();
export const post = async (path, body, signal) => (await request(path, body, signal)).json();

// Has a file translated with its structure; `told(status)` hears how far it is. Returns the file, and what became of its segments.
export const translateFile = async (file, fields, told, signal) => {
  const form = new FormData();
  form.append("file", file);
  for (const [name, value] of Object.entries(fields)) if (value) form.append(name, value);
  const { document_id: id, document_key } = await post("/v2/document", form, signal);
  for (;;) {
    const status = await post(`/v2/document/${id}`, { document_key }, signal);
    if (status.status === "error") throw new Refused(0, status.error_message);
    if (status.status === "done") return { data: await (await request(`/v2/document/${id}/result`, { document_key }, signal)).blob(), ...status.lingraft };
    told(status);
    await wait(1, signal);
  }
};

// Asks again, some times, where the server says that it is busy.
const patient = async (path, body, signal, onBusy) => {
  for (let tries = 1; ; tries += 1) {
    try {
      return await request(path, body, signal);
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 503 || !error.seconds || tries >= MOST_TRIES) throw error;
      onBusy(error.seconds);
      await wait(error.seconds, signal);
    }
  }
};

// Asks for an answer and hands on what comes: `text(piece)`, `part(role)`, `hidden(role, piece)`, `busy(seconds)`.
// Returns the server's figures, with the finish reason and the token counts.
export const answer = async (body, on, signal) => {
  const asked = { ...body, stream: true, stream_options: { include_usage: true }, lingraft: { chain: true } };
  const response = await patient("/v1/chat/completions", asked, signal, on.busy);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let figures = null;
  let ended = false;
  const take = (event) => {
    const data = event.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
    if (!data) return;
    if (data === "[DONE]") { ended = true; return; }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(500, chunk.error.message);
    const choice = chunk.choices[0];
    const more = chunk.lingraft || {};
    if (more.started) on.part(more.started.role);
    else if (more.delta) on.hidden(more.delta.role, more.delta.text);
    if (choice?.delta?.content) on.text(choice.delta.content);
    if (choice?.finish_reason) figures = { ...more, finish: choice.finish_reason };
    if (chunk.usage && figures) figures.usage = chunk.usage;
  };
  for (;;) {
    const { done, value } = await reader.read();
    rest += decoder.decode(value || new Uint8Array(), { stream: !done });
    const events = rest.split("\n\n");
    rest = events.pop();
    events.forEach(take);
    if (done) break;
  }
  if (!ended || !figures) throw new Refused(0, "the answer was broken off; ask again");
  return figures;
};
