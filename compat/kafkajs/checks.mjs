// A test runner of a page, as in pylib/checks.py.

import { isDeepStrictEqual } from 'node:util'
import { setTimeout as pause } from 'node:timers/promises'

const cases = []

export function test(name, body) {
  cases.push({ name, body })
}

// `cleanUp` runs before the process ends.
export async function runCases(cleanUp = () => {}) {
  let passed = 0
  for (const { name, body } of cases) {
    const begun = Date.now()
    try {
      await body()
      passed += 1
      console.log(`ok   ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`)
    } catch (error) {
      console.log(`FAIL ${name}: ${error?.stack ?? error}`)
    }
  }
  await cleanUp()
  console.log(`${passed} passed, ${cases.length - passed} failed`)
  process.exit(passed === cases.length ? 0 : 1)
}

export function equal(found, expected, what = 'value') {
  if (!isDeepStrictEqual(found, expected)) {
    throw new Error(`${what}: found ${cut(found)}, expected ${cut(expected)}`)
  }
}

// Asks until the answer is true; fails at the deadline.
export async function waitUntil(what, probe, seconds = 30) {
  const deadline = Date.now() + seconds * 1000
  for (;;) {
    const answer = await probe()
    if (answer) return answer
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what()}`)
    await pause(20)
  }
}

function cut(value) {
  const text = JSON.stringify(value) ?? String(value)
  return text.length <= 1500 ? text : `${text.slice(0, 1500)}… (${text.length} characters)`
}
