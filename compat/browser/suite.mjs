// hydrant.js over real sockets: records in order, resume over kill -9, groups, acknowledgements.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const server = `http://${process.env.HYDRANT_HTTP}`;
const lib = join(process.env.HYDRANT_COMPAT, "lib.sh");
const PATIENCE_MS = 30000;
const fresh = (prefix) => `${prefix}-${crypto.randomUUID().slice(0, 8)}`;

async function post(path, body, type = "application/json") {
  const answer = await fetch(server + path, { method: "POST", headers: { "content-type": type }, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${path}: ${answer.status} ${await answer.clone().text()}`);
  const text = await answer.text();
  return text ? JSON.parse(text) : undefined;
}

const produce = (topic, values) =>
  post(`/topics/${topic}`, { records: values.map((value) => ({ value, partition: 0 })) }, "application/vnd.kafka.json.v2+json");

async function topic() {
  const name = fresh("js");
  await post("/admin/topics", { topic_name: name, partitions_count: 2 });
  return name;
}

async function until(what, condition) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `not in time: ${what}`);
    await new Promise((wake) => setTimeout(wake, 10));
  }
}

const script = await fetch(`${server}/hydrant.js`);
const module = join(process.env.HYDRANT_STATE, "hydrant.mjs");
writeFileSync(module, await script.text());
const { stream, events } = await import(module);
const numbers = (from, to) => Array.from({ length: to - from }, (_, at) => from + at);

const tests = {
  async "files have an ETag"() {
    for (const [path, type] of [["/hydrant.js", "text/javascript"], ["/hydrant.d.ts", "application/typescript"], ["/examples/tail.html", "text/html"]]) {
      const first = await fetch(server + path);
      assert.ok(first.headers.get("content-type").startsWith(type), path);
      const again = await fetch(server + path, { headers: { "if-none-match": first.headers.get("etag") } });
      assert.equal(again.status, 304, path);
    }
    assert.equal((await fetch(`${server}/examples/x.html`)).status, 404);
  },

  async "the parser follows the rules at every byte boundary"() {
    const text = "\uFEFF: comment\r\nid: 1\r\ndata: a\r\ndata:b\r\n\r\nevent: x\rdata:  c é\r\rid: 2\ndata\n\nretry: 7\n\ndata: lost";
    const bytes = new TextEncoder().encode(text);
    const parse = async (cuts) => {
      const chunks = [...cuts, bytes.length].map((cut, at) => bytes.slice(at ? cuts[at - 1] : 0, cut));
      const found = [];
      const body = new ReadableStream({ start(c) { chunks.forEach((chunk) => c.enqueue(chunk)); c.close(); } });
      for await (const event of events(body)) found.push([event.event, event.id, event.data, event.retry]);
      return found;
    };
    const expected = [["message", "1", "a\nb", undefined], ["x", "1", " c é", undefined], ["message", "2", "", undefined], ["message", "2", undefined, 7]];
    assert.deepEqual(await parse([]), expected);
    for (let cut = 1; cut < bytes.length; cut++) assert.deepEqual(await parse([cut]), expected, `cut at ${cut}`);
    assert.deepEqual(await parse(numbers(1, bytes.length)), expected);
  },

  async "records come once and in order over kill -9 and restart"() {
    const name = await topic();
    const got = [], states = [];
    const open = stream(server, { topics: name, params: { from: "earliest", ids: "each" }, onRecord: (r) => { got.push(r.value); }, onState: (s) => states.push(s) });
    await produce(name, numbers(0, 50));
    await until("50 records", () => got.length === 50);
    execFileSync("bash", [lib, "restart_server", "KILL"], { stdio: "ignore" });
    await fetch(`${server}/livez`).catch(() => {}); // the kept connection is dead; the next one is new
    await produce(name, numbers(50, 100));
    await until("100 records", () => got.length >= 100);
    await open.close();
    assert.deepEqual(got, numbers(0, 100));
    assert.deepEqual([states[0], states[1], states.at(-1)], ["open", "closed", "end"]);
  },

  async "a group stream acknowledges and comes back to what it owes"() {
    const [name, group] = [await topic(), fresh("g")];
    await produce(name, numbers(0, 10));
    const got = [], assigned = [];
    const options = { topics: name, group, member: "tab", ack: "explicit", params: { from: "earliest" } };
    const first = stream(server, { ...options, onRecord: (r) => { got.push(r.value); }, onAssigned: (a) => assigned.push(a) });
    await until("10 records", () => got.length === 10);
    assert.deepEqual(assigned[0].partitions.length, 2);
    const { acks } = await first.ack();
    assert.deepEqual(acks.map((ack) => ack.committed), [10, 0]);
    await produce(name, numbers(10, 15));
    await until("15 records", () => got.length === 15);
    await first.close();
    const again = [];
    const second = stream(server, { ...options, onRecord: (r) => { again.push(r.value); } });
    await until("what is owed", () => again.length === 5);
    assert.deepEqual(again, numbers(10, 15));
    let why;
    const third = stream(server, { ...options, onState: (state, error) => { why ??= state === "end" ? error : undefined; } });
    await assert.rejects(second.done, /connected again elsewhere/);
    await third.close({ leave: true });
    assert.equal(why, undefined);
    const gone = await fetch(`${server}/consumers/${group}/stream/tab`, { method: "DELETE" });
    assert.equal(gone.status, 404);
  },

  async "a slow handler holds the stream up"() {
    const name = await topic();
    await produce(name, numbers(0, 20));
    let busy = 0, most = 0, count = 0;
    const open = stream(server, { topics: name, params: { from: "earliest" }, onRecord: async () => {
      most = Math.max(most, ++busy);
      await new Promise((wake) => setTimeout(wake, 1));
      busy--; count++;
    } });
    await until("20 records", () => count === 20);
    await open.close();
    assert.equal(most, 1);
  },

  async "a bound ends it, a refusal too, and an abort"() {
    const name = await topic();
    await produce(name, numbers(0, 5));
    const got = [];
    await stream(server, { topics: name, params: { from: "earliest", limit: 3 }, onRecord: (r) => { got.push(r.value); } }).done;
    assert.deepEqual(got, [0, 1, 2]);
    await assert.rejects(stream(server, { topics: fresh("none") }).done, /404/);
    const stop = new AbortController();
    const open = stream(server, { topics: name, signal: stop.signal, onState: (state) => state === "open" && stop.abort() });
    await open.done;
  },

  async "silence is noticed"() {
    const name = await topic();
    const why = [];
    const open = stream(server, { topics: name, silence: 200, backoffMax: 10, onState: (state, error) => state === "closed" && why.push(String(error)) });
    await until("a second attempt", () => why.length >= 2);
    await open.close();
    assert.match(why[0], /silence|abort/i);
  },
};

let passed = 0, failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    passed++;
    console.log(`ok  ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED  ${name}\n${error.stack}`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
