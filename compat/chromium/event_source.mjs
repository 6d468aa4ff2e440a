// The browser's own EventSource.

import { equal, test, waitUntil } from '../kafkajs/checks.mjs'
import { HTTP, makeTopic, restartServer } from '../kafkajs/hydrant.mjs'
import { requestsTo } from './browser.mjs'
import { Load, values } from './load.mjs'

const PARTITIONS = 2
let ended // the page of a stream that is over

// Runs in the page: collects records with the id of their event.
function collect(url) {
  window.records = []
  window.errors = 0
  window.ends = []
  window.source = new EventSource(url)
  source.onmessage = ({ data, lastEventId }) => {
    const { partition, offset, value } = JSON.parse(data)
    records.push({ partition, offset, value, id: lastEventId })
  }
  source.onerror = () => { errors += 1 }
  source.addEventListener('end', ({ data }) => ends.push(JSON.parse(data).reason))
}

export function register({ context }) {
  test('EventSource loses and repeats nothing over kill -9 and restarts under load', async () => {
    const topic = await makeTopic(PARTITIONS)
    const page = await context.newPage()
    const requests = requestsTo(page, `/topics/${topic}/stream`)
    await page.goto(`${HTTP}/livez`)
    const load = new Load(topic, PARTITIONS)
    await page.evaluate(collect, `/topics/${topic}/stream?from=earliest&ids=each`)
    const count = () => page.evaluate(() => records.length)
    const more = async () => {
      const before = await count()
      await waitUntil(() => `records after ${before}`, async () => await count() >= before + 100)
    }
    for (const signal of ['KILL', 'TERM', 'KILL']) {
      await more()
      await restartServer(signal)
    }
    await more()
    const sent = await load.stop()
    const last = Array(PARTITIONS).fill(-1)
    for (const { partition, offset } of sent) last[partition] = Math.max(last[partition], offset)
    const seenAll = (ends) => ends.every((end, partition) =>
      records.some((record) => record.partition === partition && record.offset === end))
    await waitUntil(() => `offsets ${last}`, () => page.evaluate(seenAll, last))

    const seen = await page.evaluate(() => records)
    const at = new Map()
    const next = Array(PARTITIONS).fill(0)
    for (const { partition, offset, value } of seen) {
      equal(offset, next[partition]++, `next offset of partition ${partition}`)
      at.set(`${partition}/${offset}`, value)
    }
    for (const { partition, offset, value } of sent) {
      equal(at.get(`${partition}/${offset}`), value, `record ${partition}/${offset}`)
    }
    // Each connection asked for what follows the last event that the page was given.
    const resumed = requests.filter(({ status }) => status === 200).slice(1)
    equal(resumed.length >= 3, true, `connections after the first: ${resumed.length}`)
    equal(new Set(resumed.map(({ headers }) => headers['last-event-id'])).size, resumed.length, 'places of resumption')
    await page.close()
  })

  test('EventSource stops for good at the end of a bounded stream', async () => {
    const topic = await makeTopic(1)
    await values(topic, [1, 2, 3, 4])
    const page = await context.newPage()
    const requests = requestsTo(page, `/topics/${topic}/stream`)
    await page.goto(`${HTTP}/livez`)
    await page.evaluate(collect, `/topics/${topic}/stream?from=earliest&limit=3`)
    await waitUntil(() => 'readyState CLOSED', () => page.evaluate(() => source.readyState === EventSource.CLOSED))
    equal(await page.evaluate(() => records.map(({ value }) => value)), [1, 2, 3])
    equal(await page.evaluate(() => ends), ['limit'])
    ended = { page, requests }
  })
}

// Runs as the last one: that no request comes can only be seen after a while.
export function registerEnd() {
  test('the EventSource that stopped has not come back', async () => {
    const { page, requests } = ended
    equal(requests.map(({ status }) => status), [200, 204], 'requests')
    equal(await page.evaluate(() => source.readyState === EventSource.CLOSED), true)
    await page.close()
  })
}
