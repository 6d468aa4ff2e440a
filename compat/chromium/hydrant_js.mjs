// hydrant.js as a module of a page.

import { equal, test, waitUntil } from '../kafkajs/checks.mjs'
import { HTTP, call, fresh, makeTopic, restartServer } from '../kafkajs/hydrant.mjs'
import { PLAIN_NAME } from './browser.mjs'
import { Load, values } from './load.mjs'

// Runs in the page: opens a stream and keeps what its callbacks are told.
async function follow([server, options]) {
  const { stream } = await import(`${server}/hydrant.js`)
  Object.assign(window, { records: [], gaps: [], states: [], assigned: [] })
  window.open_ = stream(server, {
    ...options,
    onRecord: ({ partition, offset, value }) => { records.push({ partition, offset, value }) },
    onGap: (gap) => gaps.push(gap),
    onAssigned: ({ partitions }) => assigned.push(partitions.map(({ partition }) => partition)),
    onState: (state, why) => states.push(why ? `${state}: ${why.message}` : state),
  })
}

export function register({ context, listed }) {
  const openAt = async (origin, options, server = '') => {
    const page = await context.newPage()
    await page.goto(origin)
    await page.evaluate(follow, [server, options])
    return page
  }
  const recordsOf = (page) => page.evaluate(() => records)
  const until = (page, count) => waitUntil(() => `${count} records`,
    () => page.evaluate((count) => records.length >= count, count))
  const valuesOf = async (page) => (await recordsOf(page)).map(({ value }) => value)

  test('hydrant.js follows a topic over kill -9 under load', async () => {
    const topic = await makeTopic(1)
    const load = new Load(topic, 1)
    const page = await openAt(`${HTTP}/livez`, { topics: topic, params: { from: 'earliest', ids: 'each' } })
    await until(page, 100)
    await restartServer('KILL')
    await until(page, (await recordsOf(page)).length + 100)
    const sent = await load.stop()
    const end = sent.at(-1).offset
    await until(page, end + 1)
    await page.evaluate(() => open_.close())
    const seen = await recordsOf(page)
    equal(seen.map(({ offset }) => offset), seen.map((_, at) => at), 'offsets')
    for (const { offset, value } of sent) equal(seen[offset].value, value, `record ${offset}`)
    const states = await page.evaluate(() => states)
    equal([states[0], states.at(-1)], ['open', 'end'])
    equal(states.filter((state) => state === 'open').length >= 2, true, `states ${states}`)
    await page.close()
  })

  test('hydrant.js of a listed origin is imported from the server, and tells of gaps', async () => {
    const topic = await makeTopic(1)
    await values(topic, [0, 1, 2, 3])
    await call('POST', `/admin/topics/${topic}/records:delete`,
      { partitions: [{ partition: 0, before_offset: 2 }] }, { content: 'application/json' })
    const page = await openAt(listed, { topics: topic, params: { from: 'offset:0=0' } }, HTTP)
    await until(page, 2)
    equal(await valuesOf(page), [2, 3])
    equal(await page.evaluate(() => gaps),
      [{ topic, partition: 0, requested: 0, resumed: 2, reason: 'retention' }])
    await page.close()
  })

  test('a page in a group acknowledges, is killed, and another goes on', async () => {
    const [topic, group] = [await makeTopic(2), fresh('pages')]
    await values(topic, [0, 1, 2])
    const options = { topics: topic, group, member: 'tab', ack: 'explicit', params: { from: 'earliest' } }
    const first = await openAt(`${HTTP}/livez`, options)
    await until(first, 3)
    equal((await first.evaluate(() => assigned))[0], [0, 1])
    const { acks } = await first.evaluate(() => open_.ack())
    equal(acks.map(({ committed }) => committed), [3, 0])
    await values(topic, [3, 4])
    await until(first, 5)
    await first.close() // nothing of it was acknowledged
    const second = await openAt(listed, options, HTTP)
    await until(second, 2)
    await restartServer('KILL')
    await values(topic, [5])
    await waitUntil(() => 'the new record', async () => (await valuesOf(second)).includes(5))
    equal([...new Set(await valuesOf(second))], [3, 4, 5])
    await second.evaluate(() => open_.ack())
    await second.evaluate(() => open_.close({ leave: true }))
    equal(await second.evaluate(() => states.at(-1)), 'end')
    const third = await openAt(`${HTTP}/livez`, options)
    await values(topic, [6])
    await until(third, 1)
    equal(await valuesOf(third), [6])
    await third.evaluate(() => open_.close({ leave: true }))
    await third.close()
    await second.close()
  })

  test('a page without a secure context can be in a group', async () => {
    const [topic, group] = [await makeTopic(1), fresh('plain')]
    await values(topic, [1])
    const address = HTTP.replace('127.0.0.1', PLAIN_NAME)
    const page = await openAt(`${address}/livez`, { topics: topic, group, params: { from: 'earliest' } })
    equal(await page.evaluate(() => isSecureContext), false, 'isSecureContext')
    await until(page, 1)
    await page.evaluate(() => open_.close({ leave: true }))
    await page.close()
  })
}
