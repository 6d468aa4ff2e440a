// Pages of other origins: one that is in the server's list, and one that is not.

import { equal, test, waitUntil } from '../kafkajs/checks.mjs'
import { HTTP, makeTopic } from '../kafkajs/hydrant.mjs'
import { values } from './load.mjs'

const JSON_V2 = 'application/vnd.kafka.json.v2+json'

// Runs in the page: resolves with what came, or with the state after an error.
const follow = (url) => new Promise((resolve) => {
  const source = new EventSource(url)
  const seen = []
  source.onmessage = ({ data }) => {
    seen.push(JSON.parse(data).value)
    if (seen.length === 2) { source.close(); resolve(seen) }
  }
  source.onerror = () => resolve(source.readyState)
})

// Runs in the page: a request with a preflight, `refused` when the browser does not let it.
const ask = ([url, init]) => fetch(url, init).then(
  async (answer) => ({ status: answer.status, id: answer.headers.get('stream-id'), text: await answer.text() }),
  () => 'refused')

async function openPage(context, origin) {
  const page = await context.newPage()
  await page.goto(origin)
  return page
}

const produceOf = (topic) => [`${HTTP}/topics/${topic}`, {
  method: 'POST', headers: { 'content-type': JSON_V2, 'idempotency-key': 'one' },
  body: JSON.stringify({ records: [{ value: 3 }] }),
}]

const count = async (topic) => {
  const answer = await fetch(`${HTTP}/topics/${topic}/stream?from=earliest&until=end&format=ndjson&data=value`)
  return (await answer.text()).split('\n').filter(Boolean).length
}

export function register({ context, listed, unlisted }) {
  test('a listed origin reads, resumes, sees our headers and produces', async () => {
    const topic = await makeTopic(1)
    await values(topic, [1, 2])
    const page = await openPage(context, listed)
    const url = `${HTTP}/topics/${topic}/stream?from=earliest`
    equal(await page.evaluate(follow, url), [1, 2])
    const resumed = await page.evaluate(ask, [`${url}&until=end`,
      { headers: { 'last-event-id': JSON.stringify([{ topic, partition: 0, offset: 1 }]) } }])
    equal(resumed.status, 200)
    equal(/^s-/.test(resumed.id), true, `stream-id ${resumed.id}`)
    equal(resumed.text.includes('"value":2') && !resumed.text.includes('"value":1'), true, resumed.text)
    equal((await page.evaluate(ask, produceOf(topic))).status, 200)
    equal(await count(topic), 3)
    await page.close()
  })

  test('an origin that is not listed reads nothing and writes nothing', async () => {
    const topic = await makeTopic(1)
    await values(topic, [1, 2])
    const page = await openPage(context, unlisted)
    const url = `${HTTP}/topics/${topic}/stream?from=earliest`
    equal(await page.evaluate(follow, url), 2, 'readyState')
    equal(await page.evaluate(ask, [`${url}&until=end`, {}]), 'refused')
    equal(await page.evaluate(ask, produceOf(topic)), 'refused')
    // A form can be sent without asking first; the page would not see the answer.
    const plain = { method: 'POST', mode: 'no-cors', body: 'from elsewhere' }
    await page.evaluate(ask, [`${HTTP}/topics/${topic}/records`, plain])
    equal(await count(topic), 2, 'records')
    await page.close()
  })
}
