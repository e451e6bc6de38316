// What every scenario writes and how it compares what it reads.

export const OFFSET_OUT_OF_RANGE = 1, UNKNOWN_TOPIC = 3, MESSAGE_TOO_LARGE = 10, INVALID_TOPIC = 17, TOPIC_ALREADY_EXISTS = 36
export const INVALID_PARTITIONS = 37, INVALID_CONFIG = 40, NON_EMPTY_GROUP = 68, GROUP_ID_NOT_FOUND = 69, FENCED_INSTANCE_ID = 82

export const HOUR_MS = 3_600_000
export const PATIENCE = 90 // seconds for anything that should come at once: the machine may be slow, with other programs on it

/** What came is not what was expected. */
export class Differs extends Error {}

/** The broker answered with a Kafka error code. */
export class Refused extends Error {
  constructor(code, text = '') {
    super(`error code ${code} ${text}`)
    this.code = code
  }
}

/** The library itself cannot do this. */
export class Without extends Error {
  constructor(word) {
    super(`the library has no ${word}`)
    this.word = word
  }
}

/**
 * A record as sent or as read: { key, value, headers, timestamp, partition, offset, logAppend }. Keys and values are Buffers
 * or null, headers are [name, Buffer or null] in order; an undefined timestamp or partition lets the library choose.
 */
export const record = (value, more = {}) => ({ key: null, value, headers: [], ...more })

/** bytes(seed, n) of SCENARIOS.md: xorshift32. */
export function generate(seed, n) {
  let x = (seed ^ 0x9e3779b9) >>> 0 || 1
  const out = Buffer.alloc(n)
  for (let i = 0; i < n; i++) {
    x = (x ^ (x << 13)) >>> 0
    x = (x ^ (x >>> 17)) >>> 0
    x = (x ^ (x << 5)) >>> 0
    out[i] = x & 0xff
  }
  return out
}

/** text(i) of SCENARIOS.md. */
export const text = i => Buffer.from(`value-${i}-`.repeat((i % 50) + 1))

export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))
export const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i)

/** A value in a form that two equal values share: Buffers as text, sets sorted. */
function shown(value) {
  return JSON.stringify(value, (_, v) => {
    if (v instanceof Set) return [...v].sort((a, b) => a - b)
    if (v?.type === 'Buffer') return `bytes:${Buffer.from(v.data).toString('latin1')}`
    return v === undefined ? '(undefined)' : v
  })
}

function brief(value) {
  const all = shown(value)
  return all.length <= 400 ? all : `${all.slice(0, 300)}... (${all.length} characters)`
}

export function expect(what, wanted, got) {
  if (shown(wanted) !== shown(got)) throw new Differs(`${what}: expected ${brief(wanted)}, came ${brief(got)}`)
}

export function expectThat(what, holds, got = '') {
  if (!holds) throw new Differs(`${what}: ${brief(got)}`)
}

export async function expectRefused(what, code, call) {
  let got
  try {
    got = await call()
  } catch (failure) {
    if (!(failure instanceof Refused)) throw failure
    return expect(`${what}: error code`, code, failure.code)
  }
  throw new Differs(`${what}: expected error code ${code}, but it succeeded with ${brief(got)}`)
}

export async function waitUntil(what, seconds, holds, show = () => '') {
  const end = Date.now() + seconds * 1000
  while (!(await holds())) {
    if (Date.now() > end) throw new Differs(`waited ${seconds} s for ${what}: ${brief(await show())}`)
    await sleep(50)
  }
}

function grouped(headers) {
  const all = {}
  for (const [name, value] of headers) (all[name] ??= []).push(value)
  return Object.entries(all).sort(([a], [b]) => (a < b ? -1 : 1))
}

/** Compares key, value, headers and, where it was given, the timestamp; `without` loosens as SCENARIOS.md says. */
export function compare(what, sent, got, without = new Set()) {
  const loose = value => (without.has('null-vs-empty') ? value ?? Buffer.alloc(0) : value)
  expect(`${what} key`, loose(sent.key), loose(got.key))
  expect(`${what} value`, loose(sent.value), loose(got.value))
  const filled = headers => headers.map(([n, v]) => [n, without.has('null-headers') ? v ?? Buffer.alloc(0) : v])
  const [before, after] = [filled(sent.headers), filled(got.headers)]
  if (without.has('repeated-headers')) expect(`${what} header names`, new Set(before.map(([n]) => n)), new Set(after.map(([n]) => n)))
  else if (without.has('header-order')) expect(`${what} headers by name`, grouped(before), grouped(after))
  else expect(`${what} headers`, before, after)
  if (sent.timestamp !== undefined && !without.has('timestamps')) expect(`${what} timestamp`, sent.timestamp, got.timestamp)
}

/** The records of scenario `shapes`. */
export function shaped(base) {
  const b = s => (s === null ? null : Buffer.from(s))
  const headers = (...pairs) => pairs.map(([name, value]) => [name, b(value)])
  const rows = [
    ['k0', 'v0', []],
    [null, 'no key', []],
    ['k2', null, []],
    ['', 'empty key', []],
    ['k4', '', []],
    [null, null, []],
    ['k6', 'v6', headers(['a', '1'])],
    ['k7', 'v7', headers(['a', '1'], ['b', '2'], ['a', '3'], ['a', '1'])],
    ['k8', 'v8', headers(['empty', ''], ['null', null], ['', 'x'])],
    ['k9', null, headers(['why', 'deleted'])],
    [generate(10, 32), generate(11, 512), [['bin', generate(12, 64)], ['ключ', b('значение')]]],
  ]
  return rows.map(([key, value, headers], n) => ({ key: b(key), value: b(value), headers, timestamp: base + n * 1000, partition: 0 }))
}

/** Record i of the interop scenarios. */
export function interop(i, base, profile) {
  const named = record(text(i), { key: Buffer.from(`key-${i}`), partition: 0 })
  if (profile === 'plain') return named
  const digit = i % 10
  if (digit === 3) named.key = null
  if (digit === 7) named.key = Buffer.alloc(0)
  if (digit === 5) named.value = null
  if (digit === 9) named.value = Buffer.alloc(0)
  if (digit === 0) named.value = generate(i, 1000)
  named.timestamp = base + i * 1000 - (digit === 4 ? 5000 : 0)
  named.headers = [
    [],
    [['h', Buffer.from(`v-${i}`)]],
    [['h', Buffer.from('a')], ['h', Buffer.from('b')], ['other', Buffer.alloc(0)]],
    [['null', null], ['bin', generate(i, 16)]],
  ][i % 4]
  return named
}

/** The record with what the library cannot write replaced by the nearest it can. */
export function storable(r, cannot) {
  return cannot.has('null-headers') ? { ...r, headers: r.headers.map(([n, v]) => [n, v ?? Buffer.alloc(0)]) } : r
}

/** Records `<p>:<s>` for s = first.., interleaved over the partitions. */
export function numbered(partitions, first, count) {
  return range(first, first + count).flatMap(s => range(0, partitions).map(p => record(Buffer.from(`${p}:${s}`), { partition: p })))
}
