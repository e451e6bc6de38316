// Group members and scenario 7.

import { FENCED_INSTANCE_ID, PATIENCE, Refused, expect, numbered, range, sleep, waitUntil } from './records.js'

/**
 * A group member. `records` is everything read, `events` the rebalances as [what, set of partitions], `owned` the present
 * assignment, `lost` what it did not own for a while after it had owned it, `strays` records read where it did not own,
 * `failure` what ended it. The adapter's consumer calls received, rebalanced and failed.
 */
export class Member {
  records = []
  events = []
  owned = new Set()
  lost = new Set()
  strays = []
  failure = null

  static async join(run, topic, group, options = {}) {
    const member = new Member()
    member.consumer = await run.library.member(run.bootstrap, topic, group, options, member)
    return member
  }

  received(records) {
    this.strays.push(...records.filter(r => !this.owned.has(r.partition)))
    this.records.push(...records)
  }

  rebalanced(what, partitions, owned) {
    if (partitions.length > 0) this.events.push([what, new Set(partitions)])
    for (const p of this.owned) if (!owned.includes(p)) this.lost.add(p)
    this.owned = new Set(owned)
  }

  failed(failure) {
    this.failure = failure
  }

  commit() {
    const next = {}
    for (const r of this.records) next[r.partition] = r.offset + 1
    return this.consumer.commitAt(next)
  }

  state() {
    return `${this.records.length} records, owns ${[...this.owned]}, failure ${this.failure}`
  }

  async close() {
    const { consumer } = this
    this.consumer = null
    await consumer?.close()
  }
}

async function waitShared(members, partitions) {
  const settled = () =>
    members.every(m => m.owned.size === partitions / members.length) && new Set(members.flatMap(m => [...m.owned])).size === partitions
  await waitUntil('equal shares', PATIENCE, settled, () => members.map(m => m.state()))
}

/** Together the members read exactly `wanted` since the counts in `before`, each record where it was owned. */
async function expectRead(members, before, wanted) {
  const fresh = () => members.flatMap((m, n) => m.records.slice(before[n])).map(r => r.value.toString())
  await waitUntil(`${wanted.length} records`, PATIENCE, () => fresh().length >= wanted.length, () => members.map(m => m.state()))
  await sleep(500)
  expect('records read by the group', wanted.sort(), fresh().sort())
  for (const member of members) expect('records outside the assignment', 0, member.strays.length)
}

export async function group(run) {
  const done = []
  for (const [part, scenario] of Object.entries({ basic, static: fixed, cooperative })) {
    if (run.lack(part)) continue
    const members = []
    const topic = await run.create(part, 4)
    const join = async options => {
      members.push(await Member.join(run, topic, `${topic}-group`, options))
      return members.at(-1)
    }
    try {
      await scenario(run, topic, join)
    } finally {
      for (const member of members) await member.close()
    }
    done.push(part)
  }
  return `parts=${done.join(',')}`
}

/** `count` records to each of the four partitions; their values. */
async function produce(run, topic, first, count) {
  const sent = numbered(4, first, count)
  await run.sendAll(topic, {}, sent)
  return sent.map(r => r.value.toString())
}

async function basic(run, topic, join) {
  const [a, b] = await Promise.all([join(), join()])
  await waitShared([a, b], 4)
  await expectRead([a, b], [0, 0], await produce(run, topic, 0, 100))
  await a.commit()
  await b.commit()
  await b.close()
  await waitUntil('A to own all', 40, () => a.owned.size === 4, () => a.state())
  const seen = a.records.length
  await expectRead([a], [seen], await produce(run, topic, 100, 10))
  await a.commit()
  await a.close()
  await expectOffsets(run, topic, 110, 0)
  const wanted = await produce(run, topic, 110, 10)
  await expectOffsets(run, topic, 110, 10)
  const c = await join()
  await expectRead([c], [0], wanted)
  await c.commit()
  await c.close()
  await expectOffsets(run, topic, 120, 0)
}

async function expectOffsets(run, topic, committed, lag) {
  await run.admin(async admin => {
    const got = await admin.committed(`${topic}-group`, topic)
    expect('committed', Object.fromEntries(range(0, 4).map(p => [p, committed])), got)
    for (const p of range(0, 4)) expect(`lag of ${p}`, lag, (await admin.bounds(topic, p))[1] - got[p])
  })
}

async function fixed(run, topic, join) {
  const [one, two] = await Promise.all([join({ instance: 'one' }), join({ instance: 'two' })])
  await waitShared([one, two], 4)
  const [held, events] = [two.owned, one.events.length]
  await two.close()
  const again = await join({ instance: 'two' })
  const same = () => again.owned.size === held.size && [...held].every(p => again.owned.has(p))
  await waitUntil('the same partitions', 40, same, () => again.state())
  await sleep(5000)
  expect('rebalances seen by one', events, one.events.length)
  expect('partitions of two', held, again.owned)
  await join({ instance: 'two' })
  await waitUntil('the older one to be fenced', 60, () => again.failure, () => again.state())
  expect('failure of the older one', FENCED_INSTANCE_ID, again.failure instanceof Refused ? again.failure.code : `${again.failure}`)
}

async function cooperative(run, topic, join) {
  const a = await join({ cooperative: true })
  await waitUntil('A to own all', 40, () => a.owned.size === 4, () => a.state())
  const events = a.events.length
  const b = await join({ cooperative: true })
  await waitShared([a, b], 4)
  const revoked = a.events.slice(events).filter(([what]) => what === 'revoked').flatMap(([, partitions]) => [...partitions])
  expect('what A gave up', b.owned, new Set(revoked))
  expect('what A lost for a while', b.owned, a.lost)
  await expectRead([a, b], [a.records.length, 0], await produce(run, topic, 0, 25))
}
