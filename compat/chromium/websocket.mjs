// The browser's own WebSocket.

import { equal, test, waitUntil } from '../kafkajs/checks.mjs'
import { HTTP, makeTopic } from '../kafkajs/hydrant.mjs'
import { values } from './load.mjs'

const ADDRESS = `${HTTP.replace('http', 'ws')}/ws`

// Runs in the page: collects messages, tells when the socket is open or closed.
function open(address) {
  window.messages = []
  window.state = 'connecting'
  window.socket = new WebSocket(address, 'hydrant.v1+json')
  window.say = (message) => socket.send(JSON.stringify(message))
  socket.onopen = () => { state = `open ${socket.protocol}` }
  socket.onclose = ({ code }) => { state = `closed ${code}` }
  socket.onmessage = ({ data }) => messages.push(JSON.parse(data))
}

export function register({ context, listed, unlisted }) {
  const openIn = async (origin) => {
    const page = await context.newPage()
    await page.goto(origin)
    await page.evaluate(open, ADDRESS)
    await waitUntil(() => 'an answer', () => page.evaluate(() => state !== 'connecting'))
    return page
  }
  for (const [whose, origin] of [['its own', `${HTTP}/livez`], ['a listed', listed]]) {
    test(`a page of ${whose} origin subscribes within its credit and produces`, async () => {
      const topic = await makeTopic(1)
      await values(topic, [0, 1, 2, 3, 4, 5])
      const page = await openIn(origin)
      equal(await page.evaluate(() => state), 'open hydrant.v1+json')
      const records = () => page.evaluate(() => messages.flatMap(({ records }) => records ?? []).map(({ value }) => value))
      const say = (message) => page.evaluate((m) => say(m), message)
      await say({ type: 'subscribe', id: 'a', topic, from: 'earliest', credit: 4 })
      await waitUntil(() => 'four records', async () => (await records()).length >= 4)
      await say({ type: 'produce', id: 'p', topic, records: [{ value: 6 }] })
      const produced = () => page.evaluate(() => messages.find(({ type }) => type === 'produced'))
      const { data } = await waitUntil(() => 'produced', produced)
      equal(data.offsets[0].offset, 6)
      equal(await records(), [0, 1, 2, 3], 'within the credit')
      await say({ type: 'credit', id: 'a', records: 10 })
      await waitUntil(() => 'the rest', async () => (await records()).length >= 7)
      equal(await records(), [0, 1, 2, 3, 4, 5, 6])
      await page.close()
    })
  }

  test('a WebSocket of another origin is refused with 403', async () => {
    const page = await context.newPage()
    const lines = []
    page.on('console', (message) => lines.push(message.text()))
    await page.goto(unlisted)
    await page.evaluate(open, ADDRESS)
    await waitUntil(() => 'closed', () => page.evaluate(() => state === 'closed 1006'))
    await waitUntil(() => `the reason, in ${lines}`, () => lines.some((line) => line.includes('403')))
    await page.close()
  })
}
