// kafkajs: producer, groups shared with an HTTP instance, admin. EventSource: nothing lost over cuts.

import { createRequire } from 'node:module'

import { equal, runCases, test, waitUntil } from './checks.mjs'
import { Pair, recordOf } from './group.mjs'
import { BASE_MS, HTTP, Instance, KAFKA, base64, call, fresh, httpProduce, httpRead, inOrder, makeTopic,
  restartServer } from './hydrant.mjs'

const modules = process.env.HYDRANT_MODULES
const { AssignerProtocol, CompressionTypes, Kafka, Partitioners, logLevel } = createRequire(`${modules}/`)('kafkajs')
const { EventSource } = await import(`${modules}/eventsource/dist/index.js`)

const kafka = new Kafka({ clientId: 'compat', brokers: [KAFKA], logLevel: logLevel.NOTHING })
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
const admin = kafka.admin()
await producer.connect()
await admin.connect()

// Reads a topic from its beginning with a group of its own.
async function read(topic, count) {
  const consumer = kafka.consumer({ groupId: fresh('read'), maxWaitTimeInMs: 200 })
  const records = []
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ partition, message }) => { records.push(recordOf(topic, partition, message)) },
  })
  await waitUntil(() => `${count} records, got ${records.length}`, () => records.length >= count)
  await consumer.disconnect()
  equal(records.length, count, 'records delivered by kafkajs')
  return inOrder(records)
}

test('both doors show the same records', async () => {
  const topic = await makeTopic(3)
  const messages = Array.from({ length: 60 }, (_, n) => ({
    key: n % 9 ? `key ${n % 7}` : null, value: n % 11 ? `value ${n} ключ`.repeat(20) : null,
    headers: { n: String(n), list: ['a', 'b'] }, timestamp: String(BASE_MS + n),
  }))
  await producer.send({ topic, messages, compression: CompressionTypes.GZIP })
  await httpProduce(topic, messages.map(({ key, value, timestamp }) => ({
    key: base64(key), value: base64(value), timestamp: Number(timestamp), headers: [{ key: 'h', value: base64('x') }],
  })))
  const found = await httpRead(topic, 120)
  equal(await read(topic, 120), found, 'records')
  const byValue = (records) => records.map(({ key, value, timestamp }) => [key, value, timestamp].join()).sort()
  const sent = messages.map(({ key, value, timestamp }) => ({ key: base64(key), value: base64(value), timestamp }))
  equal(byValue(found), byValue([...sent, ...sent]), 'keys, values and timestamps')
  const places = new Map()
  for (const { key, partition } of found.filter(({ key }) => key !== null)) {
    places.set(key, (places.get(key) ?? new Set()).add(partition))
  }
  equal([...places.values()].filter((partitions) => partitions.size > 1).length, 0, 'keys on several partitions')
})

test('idempotent producer', async () => {
  const topic = await makeTopic(1)
  const idempotent = kafka.producer({ idempotent: true, createPartitioner: Partitioners.DefaultPartitioner })
  await idempotent.connect()
  for (let n = 0; n < 20; n += 1) await idempotent.send({ topic, messages: [{ value: String(n) }] })
  await idempotent.disconnect()
  const values = (await httpRead(topic, 20)).map(({ value }) => Buffer.from(value, 'base64').toString())
  equal(values, Array.from({ length: 20 }, (_, n) => String(n)))
})

// The protocol name of Java, librdkafka and Hydrant for what kafkajs does by itself.
const roundRobin = ({ cluster }) => ({
  name: 'roundrobin',
  version: 0,
  async assign({ members, topics }) {
    const ids = members.map(({ memberId }) => memberId).sort()
    const shares = Object.fromEntries(ids.map((id) => [id, {}]))
    const all = topics.flatMap((topic) =>
      cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => ({ topic, partitionId })))
    for (const [n, { topic, partitionId }] of all.entries()) {
      const share = shares[ids[n % ids.length]]
      share[topic] = [...share[topic] ?? [], partitionId]
    }
    return ids.map((memberId) => ({
      memberId, memberAssignment: AssignerProtocol.MemberAssignment.encode({ version: 0, assignment: shares[memberId] }),
    }))
  },
  protocol({ topics }) {
    return { name: 'roundrobin', metadata: AssignerProtocol.MemberMetadata.encode({ version: 0, topics }) }
  },
})

for (const first of ['native', 'http']) {
  for (const [name, options] of [['own', {}], ['standard', { partitionAssigners: [roundRobin] }]]) {
    test(`group with an instance, ${name} assigner, ${first} first`, async () => {
      const pair = await Pair.join(kafka, admin, { options, first })
      try {
        let stored = await pair.produce('together', producer)
        const shares = await pair.expect(stored)
        equal([shares.native.length > 0, shares.http.length > 0], [true, true], 'both members were served')
        await pair.commit(shares, stored)
        await pair.leave('native')
        await pair.until('HTTP member has all partitions', () => pair.isSharedOut())
        stored = await pair.produce('HTTP alone', producer)
        await pair.commit(await pair.expect(stored), stored)
        await pair.joinNative()
        await pair.until('partitions are shared out again', () => pair.isSharedOut())
        await pair.leave('http')
        await pair.until('native member has all partitions', () => pair.isSharedOut())
        stored = await pair.produce('native alone', producer)
        await pair.commit(await pair.expect(stored), stored)
      } finally {
        await pair.close()
      }
    })
  }
}

test('more members than partitions', async () => {
  for (const first of ['native', 'http']) {
    const options = { partitionAssigners: [roundRobin] }
    const pair = await Pair.join(kafka, admin, { partitions: 1, options, first })
    const stored = await pair.produce('one partition', producer)
    await pair.expect(stored)
    await pair.close()
  }
})

test('admin creates and describes topics', async () => {
  const topic = fresh('admin')
  equal(await admin.createTopics({ topics: [{ topic, numPartitions: 5 }] }), true)
  equal(await admin.createTopics({ topics: [{ topic, numPartitions: 5 }] }), false, 'created twice')
  const { topics: [described] } = await admin.fetchTopicMetadata({ topics: [topic] })
  const overHttp = await call('GET', `/topics/${topic}`)
  equal(described.partitions.length, 5)
  equal(overHttp.partitions.map(({ partition, leader }) => [partition, leader]),
    described.partitions.map(({ partitionId, leader }) => [partitionId, leader]), 'partitions and leaders')
  equal((await admin.listTopics()).includes(topic), true, 'topic is listed')
  await httpProduce(topic, [{ key: null, value: base64('x'), partition: 3, timestamp: BASE_MS }])
  const ends = await admin.fetchTopicOffsets(topic)
  equal(ends.map(({ partition, low, high }) => [partition, low, high]).sort(),
    [0, 1, 2, 3, 4].map((n) => [n, '0', n === 3 ? '1' : '0']), 'offsets of the topic')
  await admin.deleteTopics({ topics: [topic] })
  await waitUntil(() => 'topic is gone', async () => !(await call('GET', '/topics')).includes(topic))
})

test('admin sees the group of an instance', async () => {
  const topic = await makeTopic(2)
  const group = fresh('admin')
  const instance = await Instance.create(group, topic)
  const stored = await httpProduce(topic, [0, 1, 1].map((partition) =>
    ({ key: null, value: base64('x'), partition, timestamp: BASE_MS })))
  const records = []
  await waitUntil(() => 'records', async () => records.push(...await instance.poll()) >= stored.length)
  await instance.commit()
  const { groups } = await admin.listGroups()
  equal(groups.find(({ groupId }) => groupId === group)?.protocolType, 'consumer', 'listed group')
  const { groups: [described] } = await admin.describeGroups([group])
  equal([described.state, described.members.length], ['Stable', 1], 'state and members')
  const { assignment } = AssignerProtocol.MemberAssignment.decode(described.members[0].memberAssignment)
  equal(assignment[topic].sort(), [0, 1], 'assignment of the instance')
  const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  equal(partitions.map(({ partition, offset }) => [partition, offset]).sort(), [[0, '1'], [1, '2']], 'commits')
  await instance.close()
  const { groups: [empty] } = await admin.describeGroups([group])
  equal([empty.state, empty.members.length], ['Empty', 0], 'state after the instance left')
})

// Follows a topic; what came, in its order.
function follow(topic) {
  const source = new EventSource(`${HTTP}/topics/${topic}/stream?from=earliest`)
  const seen = []
  source.onmessage = ({ data }) => {
    const { partition, offset } = JSON.parse(data)
    seen.push(`${partition}:${offset}`)
  }
  return { source, seen }
}

const publish = (topic, count, tag) => httpProduce(topic, Array.from({ length: count }, (_, n) =>
  ({ key: null, value: base64(JSON.stringify({ tag, n, text: 'x'.repeat(100) })), partition: n % 3, timestamp: BASE_MS })))

const names = (stored) => stored.map(({ partition, offset }) => `${partition}:${offset}`).sort()

for (const signal of ['TERM', 'KILL']) {
  test(`EventSource loses and repeats nothing over SIG${signal}`, async () => {
    const topic = await makeTopic(3)
    const stored = await publish(topic, 300, 'before')
    const { source, seen } = follow(topic)
    await waitUntil(() => `300 events, got ${seen.length}`, () => seen.length >= 300)
    await restartServer(signal)
    stored.push(...await publish(topic, 300, 'after'))
    await waitUntil(() => `600 events, got ${seen.length}`, () => seen.length >= 600)
    stored.push(...await publish(topic, 3, 'live'))
    await waitUntil(() => `603 events, got ${seen.length}`, () => seen.length >= 603)
    source.close()
    equal([...seen].sort(), names(stored), 'events')
  })
}

test('EventSource cut in the middle of a long replay', async () => {
  const topic = await makeTopic(3)
  const stored = []
  for (let n = 0; n < 10; n += 1) stored.push(...await publish(topic, 3000, `part ${n}`))
  const { source, seen } = follow(topic)
  await waitUntil(() => `100 events, got ${seen.length}`, () => seen.length >= 100)
  const cutAt = seen.length
  await restartServer('KILL')
  await waitUntil(() => `${stored.length} events, got ${seen.length}`, () => seen.length >= stored.length, 60)
  source.close()
  console.log(`     cut after ${cutAt} of ${stored.length} events`)
  equal([...seen].sort(), names(stored), 'events')
})

await runCases()
