// What pages in a real browser see: one file for each subject, run in this order.

import { runCases } from '../kafkajs/checks.mjs'
import { restartServer } from '../kafkajs/hydrant.mjs'
import { openBrowser, otherOrigin } from './browser.mjs'
import { registerEnd } from './event_source.mjs'

const listed = await otherOrigin()
const unlisted = await otherOrigin()
process.env.HYDRANT_CORS_ORIGINS = listed.origin
await restartServer('TERM') // the list is known only now
const context = await openBrowser()
const origins = { context, listed: listed.origin, unlisted: unlisted.origin }

for (const subject of ['event_source', 'origins', 'hydrant_js', 'websocket', 'pages']) {
  const { register } = await import(`./${subject}.mjs`)
  register(origins)
}
registerEnd()
await runCases(() => context.close())
