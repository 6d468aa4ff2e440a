// A headless Chromium with a profile of its own, and pages that are served from other origins.

import { createRequire } from 'node:module'
import { createServer } from 'node:http'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'

const load = createRequire(`${process.env.HYDRANT_MODULES}/`)
const { chromium } = load('playwright-core')

// A name that resolves to this machine and is, unlike localhost, no secure context.
export const PLAIN_NAME = 'hydrant.test'

// Nothing of the browser's own may reach beyond this machine, and no QUIC is tried.
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update',
  `--host-resolver-rules=MAP ${PLAIN_NAME} 127.0.0.1`,
]

export async function openBrowser() {
  const profile = await mkdtemp(join(process.env.HYDRANT_STATE, 'profile-'))
  return chromium.launchPersistentContext(profile, {
    executablePath: process.env.HYDRANT_CHROMIUM,
    headless: true,
    args: FLAGS,
    viewport: { width: 1100, height: 800 },
  })
}

// An empty page of an origin of its own; `close` ends its server.
export async function otherOrigin() {
  const server = createServer((_, answer) => {
    answer.setHeader('content-type', 'text/html')
    answer.end('<!doctype html><title>a page of somebody else</title>')
  })
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready))
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() }
}

// Keeps a picture if somebody wants to see it.
export async function picture(page, name) {
  const folder = process.env.HYDRANT_SCREENSHOTS
  if (folder) await page.screenshot({ path: join(folder, `${name}.png`) })
}

// Requests to `path` as the browser sends them: status and headers, in order.
export function requestsTo(page, path) {
  const found = []
  page.on('request', async (request) => {
    if (new URL(request.url()).pathname !== path) return
    const entry = { headers: {}, status: null }
    found.push(entry)
    entry.headers = await request.allHeaders()
    entry.status = (await request.response().catch(() => null))?.status() ?? 'failed'
  })
  return found
}
