// A program against the types made of the document: what they do not allow does not compile.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const api = createClient<paths>({ baseUrl: `http://${process.env.HYDRANT_HTTP}` });
const topic_name = "sdk-typescript";
const group = "sdk-typescript";

function done<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (!answer.response.ok) {
    throw new Error(`${answer.response.url}: ${answer.response.status} ${JSON.stringify(answer.error)}`);
  }
  return answer.data as T;
}

function equal(got: unknown, wanted: unknown, what: string): void {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: ${a}, wanted ${b}`);
}

done(await api.POST("/admin/topics", { body: { topic_name, partitions_count: 1 } }));
const produced = done(
  await api.POST("/topics/{topic}", {
    params: { path: { topic: topic_name } },
    headers: { "content-type": "application/vnd.kafka.json.v2+json" },
    body: { records: [{ key: "a", value: { amount: 1 } }, { key: "b", value: { amount: 2 } }] },
  }),
);
equal(produced.offsets.map((one) => one.offset), [0, 1], "offsets of what was produced");

const created = done(
  await api.POST("/consumers/{group}", {
    params: { path: { group } },
    body: { name: "one", format: "json", "auto.offset.reset": "earliest" },
  }),
);
const path = { group, instance: created.instance_id };
done(await api.POST("/consumers/{group}/instances/{instance}/subscription", {
  params: { path },
  body: { topics: [topic_name] },
}));
const amounts: unknown[] = [];
for (let poll = 0; poll < 30 && amounts.length < 2; poll++) {
  const records = done(await api.GET("/consumers/{group}/instances/{instance}/records", {
    params: { path, query: { timeout: 1000 } },
  }));
  amounts.push(...records.map((record) => record.value));
}
equal(amounts, [{ amount: 1 }, { amount: 2 }], "records polled");
done(await api.POST("/consumers/{group}/instances/{instance}/offsets", {
  params: { path },
  body: { offsets: [{ topic: topic_name, partition: 0, offset: 1 }] },
}));
const about = done(await api.GET("/admin/groups/{group}", { params: { path: { group } } }));
equal(about.offsets.map((one) => one.committed_offset), [2], "offsets committed");
done(await api.DELETE("/consumers/{group}/instances/{instance}", { params: { path } }));

const missing = await api.GET("/topics/{topic}/records", { params: { path: { topic: "none-such" } } });
equal([missing.response.status, (missing.error as { error_code: number }).error_code], [404, 40401], "error");
