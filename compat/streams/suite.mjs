// Streams and WebSockets by npm's clients: eventsource and ws.

import { createRequire } from 'node:module'
import { once } from 'node:events'

import { equal, runCases, test, waitUntil } from '../kafkajs/checks.mjs'
import { call, fresh } from '../kafkajs/hydrant.mjs'

const load = createRequire(`${process.env.HYDRANT_MODULES}/`)
const { EventSource } = load('eventsource')
const { WebSocket } = load('ws')

const ROOT = `http://${process.env.HYDRANT_HTTP}`
const JSON_V2 = 'application/vnd.kafka.json.v2+json'

async function makeTopic(values) {
  const topic = fresh('streams')
  await call('POST', '/admin/topics', { topic_name: topic, partitions_count: 1 }, { content: 'application/json' })
  if (values.length > 0) await produce(topic, values)
  return topic
}

const produce = (topic, values) =>
  call('POST', `/topics/${topic}`, { records: values.map((value) => ({ value })) }, { content: JSON_V2 })

test('EventSource sees a filter, names and batches', async () => {
  const topic = await makeTopic(Array.from({ length: 20 }, (_, n) => ({ n, text: 'a\r\nid: 1\0' })))
  const filter = encodeURIComponent('value.n >= 10')
  const seen = []
  const source = new EventSource(`${ROOT}/topics/${topic}/stream?from=earliest&batch=4&data=value&filter=${filter}`)
  source.addEventListener('batch', (event) => seen.push(...JSON.parse(event.data)))
  await waitUntil(() => `${seen.length} of 10`, () => seen.length === 10)
  equal(seen.map(({ n }) => n), [10, 11, 12, 13, 14, 15, 16, 17, 18, 19])
  equal(seen[0].text, 'a\r\nid: 1\0')
  await produce(topic, [{ n: 5 }, { n: 99 }])
  await waitUntil(() => `${seen.length} of 11`, () => seen.length === 11)
  equal(seen[10], { n: 99 })
  source.close()
})

test('EventSource stops at the end of a bounded stream', async () => {
  const topic = await makeTopic([1, 2, 3])
  const seen = []
  const source = new EventSource(`${ROOT}/topics/${topic}/stream?from=earliest&limit=2&data=value`)
  source.addEventListener(topic, () => seen.push('wrong name'))
  source.addEventListener('message', (event) => seen.push(event.data))
  source.addEventListener('end', (event) => seen.push(JSON.parse(event.data).reason))
  await waitUntil(() => `state ${source.readyState}`, () => source.readyState === EventSource.CLOSED)
  equal(seen, ['1', '2', 'limit'])
})

test('ws gets records within its credit and resumes on another connection', async () => {
  const topic = await makeTopic(Array.from({ length: 12 }, (_, n) => n))
  const open = async () => {
    const socket = new WebSocket(`${ROOT.replace('http', 'ws')}/ws`, 'hydrant.v1+json')
    const messages = []
    socket.on('message', (data) => messages.push(JSON.parse(data)))
    await once(socket, 'open')
    return { socket, messages, say: (message) => socket.send(JSON.stringify(message)) }
  }
  const records = ({ messages }) => messages.flatMap((message) => message.records ?? [])
  const first = await open()
  first.say({ type: 'subscribe', id: 'a', topic, from: 'earliest', credit: 5 })
  await waitUntil(() => 'five records', () => records(first).length === 5)
  const cursor = first.messages.findLast((message) => message.type === 'records').cursor
  first.socket.close()
  const second = await open()
  second.say({ type: 'subscribe', id: 'a', topic, cursor })
  await waitUntil(() => 'the rest', () => records(second).length === 7)
  equal(records(second).map(({ value }) => value), [5, 6, 7, 8, 9, 10, 11])
  second.say({ type: 'unsubscribe', id: 'a' })
  await waitUntil(() => 'the end', () => second.messages.some(({ type }) => type === 'unsubscribed'))
  second.socket.close()
})

await runCases()
