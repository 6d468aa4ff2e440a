// A kafkajs consumer and an HTTP instance in one group.

import { equal, waitUntil } from './checks.mjs'
import { BASE_MS, Instance, base64, fresh, httpProduce, inOrder, inShape, makeTopic } from './hydrant.mjs'

const bytes = (value) => (value === null || value === undefined ? null : value.toString('base64'))

// kafkajs shows headers as an object of values or of lists of values.
export function recordOf(topic, partition, { offset, key, value, headers, timestamp }) {
  const pairs = Object.entries(headers ?? {})
    .flatMap(([name, found]) => [found].flat().map((one) => ({ key: name, value: bytes(one) })))
  return inShape({ topic, partition, offset, key: bytes(key), value: bytes(value), headers: pairs, timestamp })
}

class NativeMember {
  static async join(kafka, group, topic, options) {
    const member = new NativeMember()
    member.records = []
    member.held = []
    const pace = { sessionTimeout: 10_000, heartbeatInterval: 300, maxWaitTimeInMs: 200 } // it beats between fetches
    member.consumer = kafka.consumer({ groupId: group, ...pace, ...options })
    const { GROUP_JOIN, REBALANCING } = member.consumer.events
    member.consumer.on(REBALANCING, () => { member.held = [] })
    member.consumer.on(GROUP_JOIN, ({ payload }) => {
      member.held = [...payload.memberAssignment[topic] ?? []].sort((a, b) => a - b)
    })
    await member.consumer.connect()
    await member.consumer.subscribe({ topics: [topic], fromBeginning: true })
    await member.consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => { member.records.push(recordOf(topic, partition, message)) },
    })
    return member
  }

  poll() {
    return this.records.splice(0)
  }

  assignment() {
    return this.held
  }

  close() {
    return this.consumer.disconnect()
  }
}

// Both members of one group; `admin` reads what the group committed by the native door.
export class Pair {
  static async join(kafka, admin, { partitions = 6, options = {}, first = 'native' } = {}) {
    const pair = new Pair()
    Object.assign(pair, { kafka, admin, options, partitions, byNative: [], byHttp: [] })
    pair.topic = await makeTopic(partitions, 'shared')
    pair.group = fresh('group')
    pair.all = Array.from({ length: partitions }, (_, n) => n)
    const joins = [() => pair.joinNative(), () => pair.joinHttp()]
    for (const join of first === 'native' ? joins : joins.reverse()) {
      await join()
      await pair.until('first member has its partitions', () => pair.isSharedOut())
    }
    return pair
  }

  async joinNative() {
    this.native = await NativeMember.join(this.kafka, this.group, this.topic, this.options)
  }

  async joinHttp() {
    this.http = await Instance.create(this.group, this.topic)
  }

  async leave(member) {
    const leaving = this[member]
    this[member] = undefined
    await leaving.close()
  }

  async close() {
    for (const member of ['native', 'http']) if (this[member]) await this.leave(member)
  }

  async step() {
    if (this.native) this.byNative.push(...this.native.poll())
    if (this.http) this.byHttp.push(...await this.http.poll())
  }

  async until(what, probe) {
    const state = () => `${what}; native has [${this.native?.assignment()}], HTTP has [${this.seen}], `
      + `${this.byNative.length} + ${this.byHttp.length} records`
    await waitUntil(state, async () => { await this.step(); return probe() }, 40)
  }

  // The group has settled with the members that are there; each partition belongs to one of them,
  // and none of them is left without one.
  async isSharedOut() {
    const { groups: [{ state, members: joined }] } = await this.admin.describeGroups([this.group])
    const native = this.native?.assignment() ?? []
    this.seen = this.http ? await this.http.assignment() : []
    const together = [...native, ...this.seen].sort((a, b) => a - b)
    const members = [this.native && native, this.http && this.seen].filter(Boolean)
    const served = members.filter((held) => held.length > 0).length
    if (state !== 'Stable' || joined.length !== members.length) return false
    return together.join() === this.all.join() && served === Math.min(members.length, this.partitions)
  }

  // Produces records that lie on every partition, half of them by each door.
  async produce(tag, producer) {
    const records = Array.from({ length: 60 }, (_, n) => ({
      key: null, value: base64(`${tag} ${n}`), headers: [{ key: 'tag', value: base64(tag) }],
      timestamp: BASE_MS + n, partition: n % this.partitions,
    }))
    const stored = await httpProduce(this.topic, records)
    const messages = records.map(({ value, partition, timestamp }) => ({
      value: Buffer.from(value, 'base64'), partition, timestamp: String(timestamp), headers: { tag },
    }))
    await producer.send({ topic: this.topic, messages })
    return this.#withTwins(stored)
  }

  // The native records follow the HTTP ones on each partition, in the same order.
  #withTwins(stored) {
    const counts = this.all.map((partition) => stored.filter((record) => record.partition === partition).length)
    return inOrder(stored.flatMap((record) => [record, { ...record, offset: record.offset + counts[record.partition] }]))
  }

  // Waits for exactly these records, each once, at whichever member; returns the shares.
  async expect(stored) {
    await this.until(`${stored.length} records`, () => this.byNative.length + this.byHttp.length >= stored.length)
    equal(inOrder([...this.byNative, ...this.byHttp]), stored, 'records of both members')
    const shares = { native: this.byNative, http: this.byHttp }
    this.byNative = []
    this.byHttp = []
    return shares
  }

  // Commits by both members and compares what both doors tell.
  async commit({ native, http }, stored) {
    if (native.length) {
      const offsets = Object.entries(ends(native)).map(([partition, offset]) =>
        ({ topic: this.topic, partition: Number(partition), offset: String(offset) }))
      await this.native.consumer.commitOffsets(offsets)
    }
    if (http.length) await this.http.commit()
    const expected = ends(stored)
    const [{ partitions }] = await this.admin.fetchOffsets({ groupId: this.group, topics: [this.topic] })
    const found = partitions.filter(({ offset }) => offset !== '-1')
    equal(Object.fromEntries(found.map(({ partition, offset }) => [partition, Number(offset)])), expected,
      'commits read by kafkajs')
    if (this.http) equal(await this.http.committed(this.topic, this.all), expected, 'commits read over HTTP')
  }
}

const ends = (records) =>
  Object.fromEntries(inOrder(records).map(({ partition, offset }) => [partition, offset + 1]))
