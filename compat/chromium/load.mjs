// Load that goes on while the server is killed: what was acknowledged, and where.

import { setTimeout as pause } from 'node:timers/promises'

import { HTTP } from '../kafkajs/hydrant.mjs'

const V2 = 'application/vnd.kafka.json.v2+json'

export const produce = async (topic, records) => {
  const answer = await fetch(`${HTTP}/topics/${topic}`, {
    method: 'POST', headers: { 'content-type': V2 }, body: JSON.stringify({ records }),
  })
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`)
  return (await answer.json()).offsets
}

export const values = (topic, list) =>
  produce(topic, list.map((value) => ({ value, partition: 0 })))

export class Load {
  acknowledged = [] // {partition, offset, value}
  #stopped = false

  constructor(topic, partitions) {
    this.topic = topic
    this.partitions = partitions
    this.done = this.#run()
  }

  async #run() {
    for (let n = 0; !this.#stopped;) {
      const batch = Array.from({ length: 7 }, () => ({ value: `value ${n++}`, partition: n % this.partitions }))
      try {
        const offsets = await produce(this.topic, batch)
        offsets.forEach(({ offset }, at) => this.acknowledged.push({ ...batch[at], offset }))
      } catch {
        await pause(50) // the server is away: whether this batch is in the log nobody told us
      }
      await pause(2)
    }
  }

  async stop() {
    this.#stopped = true
    await this.done
    return this.acknowledged
  }
}
