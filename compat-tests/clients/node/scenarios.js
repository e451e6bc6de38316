// Scenarios 1 to 6, 9 and 10 of SCENARIOS.md, written against the adapters.

import { Member } from './groups.js'
import {
  HOUR_MS, MESSAGE_TOO_LARGE, OFFSET_OUT_OF_RANGE, PATIENCE, Without, compare, expect, expectRefused, expectThat, generate, interop,
  numbered, range, record, shaped, sleep, storable, text, waitUntil,
} from './records.js'

/** Records written until a reader that was reset to the end sees one. */
const RESETS = 9

/** `count` records, or more when more come with the last of them. */
export async function read(reader, count, seconds = PATIENCE) {
  const got = []
  const end = Date.now() + seconds * 1000
  while (got.length < count) {
    expectThat(`${count} records within ${seconds} s`, Date.now() < end, got.length)
    got.push(...(await reader.poll(200)))
  }
  return got
}

/** The whole topic from offset 0: `count` records and no more. */
async function readFrom(run, topic, count, partitions = 1) {
  const got = await run.reader('earliest', async reader => {
    await reader.assign(topic, Object.fromEntries(range(0, partitions).map(p => [p, 0])))
    return read(reader, count)
  })
  expect(`records in ${topic}`, count, got.length)
  return got
}

/** Offsets 0, 1, 2, ... in the order they came, and as acknowledged. */
function expectDense(got, acks) {
  expect('offsets', range(0, got.length), got.map(r => r.offset))
  if (acks) expect('acknowledged', acks, got.map(r => [r.partition, r.offset]))
}

export async function defaults(run) {
  const variants = { '': {}, idempotent: { idempotent: true }, ...run.library.variants }
  for (const [part, options] of Object.entries(variants)) await defaultsWith(run, run.topic(part), options)
  return `records=1000 producers=${Object.keys(variants).length}`
}

async function defaultsWith(run, topic, options) {
  const sent = range(0, 1000).map(i => record(generate(i, 100), { key: Buffer.from(`key-${i % 50}`) }))
  const acks = await run.sendAll(topic, options, sent)
  const member = await Member.join(run, topic, `${topic}-group`, { autoCommit: true, ...options })
  let got
  try {
    await waitUntil('1000 records', PATIENCE, () => member.records.length >= 1000, () => member.state())
    await sleep(1000)
    got = [...member.records]
  } finally {
    await member.close()
  }
  expect('number of records', 1000, got.length)
  const at = new Map()
  const next = {}
  for (const r of got) {
    expect(`offset in partition ${r.partition}`, next[r.partition] ?? 0, r.offset)
    next[r.partition] = r.offset + 1
    at.set(`${r.partition}/${r.offset}`, r)
  }
  const last = {}
  sent.forEach((r, i) => {
    const [partition, offset] = acks[i]
    expectThat(`record ${i} as acknowledged`, at.has(`${partition}/${offset}`), acks[i])
    compare(`record ${i}`, r, at.get(`${partition}/${offset}`))
    const before = last[r.key]
    if (before) {
      expect(`partition of ${r.key}`, before[0], partition)
      expectThat(`order of ${r.key}`, before[1] < offset, acks[i])
    }
    last[r.key] = acks[i]
  })
}

export async function codecs(run) {
  for (const codec of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
    if (!run.library.codecs.includes(codec)) {
      run.without.add(`codec-${codec}`)
      continue
    }
    const topic = await run.create(codec, 1)
    const sent = range(0, 200).map(i => record(i % 2 ? generate(i, 300) : text(i)))
    const acks = await run.sendAll(topic, { codec }, sent)
    const got = await readFrom(run, topic, 200)
    expectDense(got, acks)
    sent.forEach((r, i) => compare(`${codec} record ${i}`, r, got[i]))
  }
  return `codecs=${run.library.codecs.join(',')}`
}

export async function shapes(run) {
  const { cannot, blurs } = run.library
  let topic = await run.create('create', 1)
  const base = Date.now() - HOUR_MS
  for (const word of [...blurs, 'null-headers', 'timestamp-type']) run.lack(word)
  let sent = shaped(base).map(r => storable(r, cannot))
  const acks = await run.sendAll(topic, {}, sent)
  let got = await readFrom(run, topic, sent.length)
  expectDense(got, acks)
  sent.forEach((r, n) => compare(`record ${n}`, r, got[n], run.without))
  if (!cannot.has('timestamp-type')) expect('LogAppendTime', sent.map(() => false), got.map(r => r.logAppend))

  topic = await run.create('append', 1, { 'message.timestamp.type': 'LogAppendTime' })
  sent = range(0, 10).map(n => record(Buffer.from(`${n}`), { timestamp: base + n * 1000, partition: 0 }))
  const begin = Date.now()
  await run.sendAll(topic, {}, sent)
  const end = Date.now()
  got = await readFrom(run, topic, 10)
  expect('order', sent.map(r => r.value), got.map(r => r.value))
  const stamps = got.map(r => r.timestamp)
  expect('timestamps ascend', [...stamps].sort((a, b) => a - b), stamps)
  expectThat('timestamps within 60 s', begin - 60_000 <= stamps[0] && stamps[9] <= end + 60_000, stamps)
  if (!cannot.has('timestamp-type')) expect('LogAppendTime', sent.map(() => true), got.map(r => r.logAppend))
  return 'records=11'
}

export async function sizes(run) {
  const topic = await run.create('', 1)
  const values = [1, 1024, 102_400, 1_000_000, 5].map(n => generate(n, n))
  await run.producer({ maxBytes: 4 * 1024 * 1024 }, async producer => {
    const store = async n => expect('ack', [[0, n]], await producer.sendAll(topic, [record(values[n], { partition: 0 })]))
    for (const n of range(0, 4)) await store(n)
    const tooLarge = record(generate(9, 1_100_000), { partition: 0 })
    await expectRefused('1,100,000 bytes', MESSAGE_TOO_LARGE, () => producer.sendAll(topic, [tooLarge]))
    await store(4)
  })
  const got = await readFrom(run, topic, 5)
  expectDense(got)
  got.forEach((r, n) => expectThat(`value ${n}`, values[n].equals(r.value), r.value.length))
  return 'largest=1000000'
}

export async function partitions(run) {
  for (const count of [1, 10, 100]) {
    const topic = await run.create(`${count}`, count)
    const listed = await run.admin(admin => admin.describe(topic))
    expect('partitions', new Set(range(0, count)), new Set(listed.map(p => p.id)))
    const sent = numbered(count, 0, 20).map(r => ({ ...r, key: Buffer.from(`${r.partition}`) }))
    const acks = await run.sendAll(topic, {}, sent)
    expect('acknowledged', sent.map((r, i) => [r.partition, Math.floor(i / count)]), acks)
    const next = range(0, count).map(() => 0)
    for (const r of await readFrom(run, topic, sent.length, count)) {
      const s = next[r.partition]++
      expect('offset', s, r.offset)
      expect('value and key', [`${r.partition}:${s}`, `${r.partition}`], [r.value.toString(), r.key.toString()])
    }
  }
  return 'partitions=1,10,100'
}

export async function manual(run) {
  const topic = await run.create('', 1)
  const base = Date.now() - HOUR_MS
  await run.sendAll(topic, {}, range(0, 100).map(i => record(Buffer.from(`manual-${i}`), { timestamp: base + i * 1000, partition: 0 })))
  run.lack('manual-assignment')
  await run.reader('earliest', async reader => {
    await reader.assign(topic, { 0: 0 })
    await read(reader, 100)
    expect('beginning and end', [0, 100], await reader.bounds(topic, 0))
    for (const start of [0, 57, 99]) {
      await reader.seek(topic, 0, start)
      const got = await read(reader, 100 - start)
      expect(`from ${start}`, range(start, 100).map(i => [i, `manual-${i}`]), got.map(r => [r.offset, r.value.toString()]))
    }
    for (const [time, offset] of [[base, 0], [base + 40_000, 40], [base + 40_001, 41], [0, 0], [base + 1_000_000, null]])
      expect(`offset for base + ${time - base}`, offset, await reader.offsetForTime(topic, 0, time))
    await reader.seek(topic, 0, 41)
    expect('at 41', 'manual-41', (await read(reader, 1))[0].value.toString())
  })
  await run.reader('earliest', async reader => {
    await reader.assign(topic, { 0: 1000 })
    expect('reset to earliest', 0, (await read(reader, 1))[0].offset)
  })
  await run.reader('latest', async reader => {
    await reader.assign(topic, { 0: 1000 })
    const quiet = Date.now() + 1000
    while (Date.now() < quiet) expect('records after a reset to latest', [], await reader.poll(100))
    // On a busy machine the end may be found only after a record was written: then the next one is read.
    let got = []
    let last = 99
    while (!got.length && last < 99 + RESETS) {
      last += 1
      expect('ack', [[0, last]], await run.sendAll(topic, {}, [record(Buffer.from(`manual-${last}`), { partition: 0 })]))
      for (const end = Date.now() + 10_000; !got.length && Date.now() < end; ) got = await reader.poll(100)
    }
    expect('reset to latest', [[last, `manual-${last}`]], got.map(r => [r.offset, r.value.toString()]))
  })
  if (!run.lack('reset-none')) {
    await run.reader('none', async reader => {
      await reader.assign(topic, { 0: 1000 })
      await expectRefused('reset none', OFFSET_OUT_OF_RANGE, () => read(reader, 1, 60))
    })
  }
  return 'records=101'
}

export async function interopWrite(run, { topic, count = '300', codec = 'none', profile = 'full' }) {
  const { codecs, cannot } = run.library
  if (!codecs.includes(codec)) throw new Without(`codec-${codec}`)
  if (profile === 'full') for (const word of ['null-headers', 'header-order']) run.lack(word)
  const base = Date.now() - HOUR_MS
  const sent = range(0, +count).map(i => storable(interop(i, base, profile), cannot))
  const acks = await run.sendAll(topic, { codec }, sent)
  expect('acknowledged', range(0, +count).map(i => [0, i]), acks)
  return `topic=${topic} count=${count} codec=${codec} profile=${profile}`
}

export async function interopRead(run, { topic, count = '300', codec = 'none', profile = 'full', without = '' }) {
  const loose = new Set(without.split(','))
  if (profile === 'plain') loose.add('timestamps')
  else for (const word of run.library.blurs) if (run.lack(word)) loose.add(word)
  const got = await readFrom(run, topic, +count)
  expectDense(got)
  const bounds = await run.reader('earliest', async reader => {
    await reader.assign(topic, { 0: 0 })
    return reader.bounds(topic, 0)
  })
  expect('bounds', [0, +count], bounds)
  got.forEach((back, i) => {
    compare(`record ${i}`, interop(i, got[0].timestamp, profile), back, loose)
    expectThat('timestamp within 24 hours', Math.abs(Date.now() - back.timestamp) < 24 * HOUR_MS, back.timestamp)
  })
  return `topic=${topic} count=${count} codec=${codec} profile=${profile}`
}

export async function restart(run, { topic, count = '500', pace = '20' }) {
  const sent = range(0, +count).map(i => record(text(i), { key: Buffer.from(`key-${i}`), partition: 0 }))
  const acks = []
  await run.producer({ idempotent: true, patient: true }, async producer => {
    for (const r of sent) {
      acks.push(...(await producer.sendAll(topic, [r])))
      if (acks.length === 1) console.log('started')
      await sleep(+pace)
    }
  })
  const got = await readFrom(run, topic, +count)
  expectDense(got, acks)
  sent.forEach((r, i) => compare(`record ${i}`, r, got[i]))
  return `topic=${topic} count=${count} duplicates=0`
}
