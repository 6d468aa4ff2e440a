// The pages that the server has for people.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import { equal, test, waitUntil } from '../kafkajs/checks.mjs'
import { HTTP, call, fresh, makeTopic, restartServer } from '../kafkajs/hydrant.mjs'
import { picture } from './browser.mjs'
import { values } from './load.mjs'

const METHODS = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace']

// A page whose errors and requests elsewhere are faults.
async function openStrict(context, path) {
  const page = await context.newPage()
  const faults = []
  page.on('pageerror', (error) => faults.push(error.message))
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()))
  page.on('request', (request) => {
    const url = request.url()
    if (!url.startsWith(HTTP) && !url.startsWith('data:')) faults.push(url)
  })
  await page.goto(HTTP + path)
  return { page, faults }
}

export function register({ context }) {
  test('tail.html follows the topic that is typed in, over kill -9', async () => {
    const topic = await makeTopic(2, 'orders')
    await values(topic, [{ n: 1, customer: 'Zoë' }, 'plain text', null])
    const { page, faults } = await openStrict(context, '/examples/tail.html')
    await picture(page, 'tail-empty')
    await page.getByLabel('Topic').fill(topic)
    await page.getByLabel('From').selectOption('earliest')
    await page.getByRole('button', { name: 'Follow' }).click()
    const rows = page.locator('#records tr')
    const state = page.getByRole('status')
    await waitUntil(() => 'three records', async () => await rows.count() === 3)
    await values(topic, [{ n: 2, text: 'a longer one. '.repeat(30) }])
    await waitUntil(() => 'four records', async () => await rows.count() === 4)
    equal((await rows.first().innerText()).includes('a longer one.'), true, 'the newest is first')
    equal(await state.innerText(), 'following, 4 records')
    equal(faults, [])
    await picture(page, 'tail-records')
    await page.setViewportSize({ width: 390, height: 700 })
    await picture(page, 'tail-narrow')

    const told = await state.evaluateHandle((element) => {
      const texts = []
      new MutationObserver(() => texts.push(element.textContent)).observe(element, { childList: true })
      return texts
    })
    await restartServer('KILL')
    await values(topic, ['after'])
    await waitUntil(() => 'five records', async () => await rows.count() === 5)
    const texts = await told.jsonValue()
    equal(texts.some((text) => text.startsWith('connecting again')), true, `told ${texts}`)
    await page.getByRole('button', { name: 'Stop' }).click()
    await waitUntil(() => 'stopped', async () => await state.innerText() === 'stopped, 5 records')
    await page.close()
  })

  test('tail.html in a group takes its place again after a reload, and tells what is wrong', async () => {
    const [topic, group] = [await makeTopic(1, 'orders'), fresh('billing')]
    const { page } = await openStrict(context, '/examples/tail.html')
    const rows = page.locator('#records tr')
    const state = page.getByRole('status')
    const follow = async (fields) => {
      for (const [label, text] of Object.entries(fields)) await page.getByLabel(label).fill(text)
      await page.getByRole('button', { name: 'Follow' }).click()
    }
    await follow({ Topic: fresh('none') })
    await waitUntil(() => '404', async () => (await state.innerText()).startsWith('404: '))
    await picture(page, 'tail-refused')
    // What is the end is known only once the partitions are assigned.
    await page.getByLabel('From').selectOption('earliest')
    await follow({ Topic: topic, Group: group })
    await waitUntil(() => 'open', async () => await state.innerText() === 'following, 0 records')
    await values(topic, ['before'])
    await waitUntil(() => 'one record', async () => await rows.count() === 1)
    await page.reload() // the address has what was typed
    await waitUntil(() => 'open', async () => (await state.innerText()).startsWith('following'))
    await values(topic, ['after'])
    // The session of a member that is gone lasts 45 s; this must not wait for it.
    const isThere = async () => (await rows.allInnerTexts()).some((text) => text.includes('after'))
    await waitUntil(() => 'the record after', isThere, 15)
    equal((await call('GET', `/admin/groups/${group}`)).members.length, 1, 'members')
    await page.getByRole('button', { name: 'Stop' }).click()
    await waitUntil(() => 'nobody', async () => (await call('GET', `/admin/groups/${group}`)).members.length === 0)
    await page.close()
  })

  test('/docs shows every operation, without the network, and tries one', async () => {
    const { page, faults } = await openStrict(context, '/docs/')
    const { paths } = JSON.parse(await readFile(join(process.env.HYDRANT_COMPAT, '../openapi/hydrant.json'), 'utf8'))
    const expected = Object.values(paths).flatMap((item) => METHODS.filter((method) => item[method])).length
    const shown = page.locator('.opblock')
    await waitUntil(() => `${expected} operations`, async () => await shown.count() >= expected)
    equal(await shown.count(), expected, 'operations')
    await picture(page, 'docs')
    const topics = page.locator('#operations-topics-listTopics')
    await topics.locator('.opblock-summary').click()
    await topics.getByRole('button', { name: 'Try it out' }).click()
    await topics.getByRole('button', { name: 'Execute' }).click()
    const status = topics.locator('.live-responses-table .response-col_status')
    await waitUntil(() => 'an answer', async () => await status.count() > 0)
    equal((await status.last().innerText()).slice(0, 3), '200')
    await topics.scrollIntoViewIfNeeded()
    await picture(page, 'docs-tried')
    equal(faults, [])
    await page.close()
  })
}
