// The browser client of Hydrant's live streams. No dependencies; also runs in Node 18 and newer.
// Unlike EventSource it sends headers, survives refusals that pass, notices a dead connection by
// the server's pings, and waits for an async handler before it takes more.

/** Parses server-sent events (WHATWG rules) from a stream of bytes. */
export async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "", id = "", event = "", data = [], retry, skipLf = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return; // what is not ended by a blank line is not dispatched
      let chunk = decoder.decode(value, { stream: true });
      if (skipLf && chunk.startsWith("\n")) chunk = chunk.slice(1);
      if (chunk) skipLf = chunk.endsWith("\r");
      text += chunk;
      const lines = text.split(/\r\n|\r|\n/);
      text = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length || retry !== undefined) {
            yield { event: event || "message", id, data: data.length ? data.join("\n") : undefined, retry };
          }
          event = ""; data = []; retry = undefined;
          continue;
        }
        const colon = line.indexOf(":");
        if (colon === 0) continue;
        const field = colon < 0 ? line : line.slice(0, colon);
        const rest = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
        if (field === "data") data.push(rest);
        else if (field === "event") event = rest;
        else if (field === "id" && !rest.includes("\0")) id = rest;
        else if (field === "retry" && /^\d+$/.test(rest)) retry = Number(rest);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// A name that nobody else has; `crypto.randomUUID` is only for pages with TLS and for localhost.
const unique = () => `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;

async function refusal(answer) {
  const text = await answer.text();
  let told;
  try { told = JSON.parse(text).message; } catch { /* of a proxy: not JSON */ }
  return Object.assign(new Error(`${answer.status}: ${told ?? text}`), { status: answer.status });
}

/** Opens a stream; see hydrant.d.ts. */
export function stream(server, options) {
  const { group, signal, silence = 45000, backoffMax = 30000 } = options;
  const fetcher = options.fetch ?? fetch;
  const closing = new AbortController();
  const stop = () => closing.abort();
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop, { once: true });
  const member = group && (options.member ?? `js-${unique()}`);
  let cursor = options.cursor ?? "", attempt = 0, pause = 2000;

  const topics = [options.topics ?? []].flat();
  const query = new URLSearchParams(options.params);
  let path = "/stream";
  if (group) path = `/consumers/${encodeURIComponent(group)}/stream`;
  else if (topics.length === 1) path = `/topics/${encodeURIComponent(topics[0])}/stream`;
  if (topics.length && !path.startsWith("/topics")) query.set("topics", topics.join(","));
  if (options.pattern) query.set("pattern", options.pattern);
  if (group) query.set("member", member);
  if (group && options.ack) query.set("ack", options.ack);

  const headers = async () => {
    const own = options.headers;
    return { ...(typeof own === "function" ? await own() : own) };
  };

  // One connection: true when the stream has come to its end.
  async function connect() {
    const attempted = new AbortController();
    let watchdog;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => attempted.abort(new Error("silence")), silence);
    };
    const abort = () => attempted.abort();
    closing.signal.addEventListener("abort", abort, { once: true });
    try {
      alive();
      const head = { accept: "text/event-stream", ...(await headers()) };
      if (cursor) head["last-event-id"] = cursor;
      const answer = await fetcher(`${server}${path}?${query}`, { headers: head, signal: attempted.signal, cache: "no-store" });
      if (answer.status === 204) return true;
      if (!answer.ok) {
        const passes = answer.status === 429 || answer.status === 408 || answer.status >= 500;
        const error = await refusal(answer);
        error.final = !passes;
        const after = Number(answer.headers.get("retry-after"));
        if (after > 0) pause = after * 1000;
        throw error;
      }
      options.onState?.("open");
      for await (const event of events(answer.body)) {
        alive();
        attempt = 0;
        if (event.retry !== undefined) pause = event.retry;
        if (event.data === undefined) continue;
        // A bare value need not be JSON.
        try { event.data = JSON.parse(event.data); } catch { /* text */ }
        if (await dispatch(event, () => clearTimeout(watchdog))) return true;
        alive();
      }
      return false;
    } finally {
      clearTimeout(watchdog);
      closing.signal.removeEventListener("abort", abort);
    }
  }

  // Hands an event out; its id is the cursor only when the handler is done with it.
  async function dispatch(event, handling) {
    const { event: name, data } = event;
    const reserved = { gap: "onGap", assigned: "onAssigned", revoked: "onRevoked", "caught-up": "onCaughtUp" };
    const control = name in reserved || ["ready", "ping", "fault", "end"].includes(name);
    if (control) {
      options.onEvent?.(event);
      options[reserved[name]]?.(data);
    } else {
      handling();
      for (const record of name === "batch" ? data : [data]) await options.onRecord?.(record, event);
    }
    if (event.id) cursor = event.id;
    if (name === "fault" && data.title === "fenced") throw Object.assign(new Error(data.detail), { final: true });
    return name === "end";
  }

  async function run() {
    while (!closing.signal.aborted) {
      let why;
      try {
        if (await connect()) return options.onState?.("end");
      } catch (error) {
        why = error;
        if (error.final) { options.onState?.("end", error); throw error; }
      }
      if (closing.signal.aborted) break;
      options.onState?.("closed", why);
      const most = Math.min(backoffMax, pause * 2 ** Math.min(attempt++, 6));
      await new Promise((wake) => {
        const timer = setTimeout(wake, most * (0.5 + Math.random() / 2));
        closing.signal.addEventListener("abort", () => { clearTimeout(timer); wake(); }, { once: true });
      });
    }
    options.onState?.("end");
  }

  const post = async (method, target, body) => {
    const head = { ...(await headers()), ...(body && { "content-type": "application/json" }) };
    const answer = await fetcher(server + target, { method, headers: head, body: body && JSON.stringify(body) });
    if (!answer.ok) throw await refusal(answer);
    return answer.status === 204 ? undefined : answer.json();
  };
  const done = run().finally(() => signal?.removeEventListener("abort", stop));
  done.catch(() => {}); // whoever does not wait for it hears of it by onState
  return {
    get cursor() { return cursor; },
    member,
    done,
    ack(upTo = cursor) {
      return post("POST", `/consumers/${encodeURIComponent(group)}/acks`, { cursor: upTo, member });
    },
    async close({ leave = false } = {}) {
      stop();
      await done.catch(() => {});
      if (leave && group) await post("DELETE", `/consumers/${encodeURIComponent(group)}/stream/${encodeURIComponent(member)}`);
    },
  };
}
