// The HTTP door, as in pylib/hydrant.py; records are compared as plain objects with base64 values.

import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'

import { equal, waitUntil } from './checks.mjs'

export const HTTP = `http://${process.env.HYDRANT_HTTP}`
export const KAFKA = process.env.HYDRANT_KAFKA
export const BASE_MS = 1_700_000_000_000

const V2 = 'application/vnd.kafka.v2+json'
const BINARY = 'application/vnd.kafka.binary.v2+json'

export const fresh = (prefix) => `${prefix}-${randomUUID().slice(0, 8)}`
export const base64 = (text) => (text === null ? null : Buffer.from(text).toString('base64'))

export async function call(method, path, body, { content = V2, accept = V2 } = {}) {
  const headers = { accept, ...(body === undefined ? {} : { 'content-type': content }) }
  const answer = await fetch(HTTP + path, { method, headers, body: body && JSON.stringify(body) })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${method} ${path} ${JSON.stringify(body)}: ${answer.status} ${text}`)
  return text ? JSON.parse(text) : null
}

export async function makeTopic(partitions, prefix = 'topic') {
  const topic = fresh(prefix)
  const body = { topic_name: topic, partitions_count: partitions }
  await call('POST', '/admin/topics', body, { content: 'application/json' })
  return topic
}

// Produces {key, value, headers, timestamp, partition} with base64 values; returns them as stored.
export async function httpProduce(topic, records) {
  const { offsets } = await call('POST', `/topics/${topic}`, { records }, { content: BINARY })
  return records.map((record, n) => {
    equal(offsets[n].error_code ?? null, null, 'error of a record')
    return { headers: [], ...record, topic, partition: offsets[n].partition, offset: offsets[n].offset }
  }).map(inShape)
}

// One shape for records of every origin.
export function inShape({ topic, partition, offset, key, value, headers = [], timestamp }) {
  return { topic, partition, offset: Number(offset), key, value, headers, timestamp: Number(timestamp) }
}

export const inOrder = (records) =>
  [...records].sort((a, b) => a.partition - b.partition || a.offset - b.offset)

export class Instance {
  static async create(group, topic) {
    const settings = { 'auto.offset.reset': 'earliest', 'auto.commit.enable': 'false' }
    const body = { name: fresh('http'), format: 'binary', ...settings }
    const { instance_id: name } = await call('POST', `/consumers/${group}`, body)
    const instance = new Instance()
    instance.path = `/consumers/${group}/instances/${name}`
    await call('POST', `${instance.path}/subscription`, { topics: [topic] })
    return instance
  }

  async poll() {
    const records = await call('GET', `${this.path}/records?timeout=50`, undefined, { accept: BINARY })
    return records.map(inShape)
  }

  async assignment() {
    const { partitions } = await call('GET', `${this.path}/assignments`)
    return partitions.map(({ partition }) => partition).sort((a, b) => a - b)
  }

  async committed(topic, partitions) {
    const found = {}
    for (const partition of partitions) {
      const query = `topic=${topic}&partition=${partition}` // fetch has no GET with a body
      const { offsets } = await call('GET', `${this.path}/offsets?${query}`)
      for (const entry of offsets) found[entry.partition] = entry.offset
    }
    return found
  }

  commit() {
    return call('POST', `${this.path}/offsets`)
  }

  close() {
    return call('DELETE', this.path)
  }
}

export async function httpRead(topic, count) {
  const instance = await Instance.create(fresh('reader'), topic)
  const records = []
  await waitUntil(() => `${count} records, got ${records.length}`,
    async () => records.push(...await instance.poll()) >= count)
  await instance.close()
  equal(records.length, count, 'records delivered over HTTP')
  return inOrder(records)
}

// Ends the server with KILL or TERM and starts it again: same data, same addresses.
export async function restartServer(signal) {
  const script = `${process.env.HYDRANT_COMPAT}/lib.sh`
  const child = spawn('bash', [script, 'restart_server', signal], { stdio: ['ignore', 'inherit', 'inherit'] })
  const code = await new Promise((resolve) => child.on('exit', resolve))
  equal(code, 0, `exit of the restart after SIG${signal}`)
}
