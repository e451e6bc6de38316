// Scenario 8: the admin calls, step by step.

import { Member } from './groups.js'
import {
  Differs, GROUP_ID_NOT_FOUND, INVALID_CONFIG, INVALID_PARTITIONS, INVALID_TOPIC, NON_EMPTY_GROUP, OFFSET_OUT_OF_RANGE, PATIENCE,
  TOPIC_ALREADY_EXISTS, UNKNOWN_TOPIC, Without, expect, expectRefused, expectThat, range, record, sleep, waitUntil,
} from './records.js'
import { read } from './scenarios.js'

export async function admin(run) {
  const steps = new Steps(run)
  let done = 0
  await run.admin(async admin => {
    steps.admin = admin
    try {
      for (const [name, step] of Object.entries(STEPS)) {
        try {
          await step.call(steps)
          done++
        } catch (failure) {
          if (!(failure instanceof Without)) throw new Differs(`step ${name}: ${failure.message}`, { cause: failure })
          run.without.add(name)
        }
      }
    } finally {
      await steps.member?.close()
    }
  })
  return `steps=${done}`
}

class Steps {
  constructor(run) {
    this.run = run
    this.topic = run.topic('')
    this.other = run.topic('default')
    this.dry = run.topic('dry')
    this.missing = run.topic('missing')
    this.group = `${this.topic}-group`
  }

  async ids() {
    return (await this.admin.describe(this.topic)).map(p => p.id).sort((a, b) => a - b)
  }
}

/** Runs all checks even when the library cannot do some; then the step counts as one it cannot do. */
async function each(...checks) {
  let without
  for (const check of checks) {
    try {
      await check()
    } catch (failure) {
      if (!(failure instanceof Without)) throw failure
      without = failure
    }
  }
  if (without) throw without
}

const STEPS = {
  async 'describe-cluster'() {
    const { id, nodes, controller } = await this.admin.cluster()
    expectThat('cluster id', id, id)
    expectThat('controller among the nodes', nodes.includes(controller), nodes)
  },

  async create() {
    await this.admin.create(this.topic, 3, 1, { 'retention.ms': '3600000', 'cleanup.policy': 'delete' })
    await this.admin.create(this.other, -1, -1, {})
    await waitUntil('both topics', 60, async () => {
      const listed = await this.admin.list()
      return listed.includes(this.topic) && listed.includes(this.other)
    })
  },

  async 'create-errors'() {
    const create = (...given) => () => this.admin.create(...given)
    await each(
      () => expectRefused('existing', TOPIC_ALREADY_EXISTS, create(this.topic, 3, 1, {})),
      () => expectRefused('bad name', INVALID_TOPIC, create('bad name!', 1, 1, {})),
      () => expectRefused('0 partitions', INVALID_PARTITIONS, create(this.dry, 0, 1, {})),
      () => expectRefused('bad config value', INVALID_CONFIG, create(this.dry, 1, 1, { 'retention.ms': 'abc' })),
      () => expectRefused('unknown config', INVALID_CONFIG, create(this.dry, 1, 1, { 'no.such.config': '1' })),
      create(this.dry, 1, 1, {}, true),
    )
  },

  async list() {
    const listed = await this.admin.list()
    expectThat('both listed', listed.includes(this.topic) && listed.includes(this.other))
    expectThat('validated only, not listed', !listed.includes(this.dry))
  },

  async describe() {
    const parts = await this.admin.describe(this.topic)
    const { nodes } = await this.admin.nodes()
    expect('partitions', [0, 1, 2], await this.ids())
    for (const { leader, replicas, inSync } of parts) {
      expectThat('leader', nodes.includes(leader), leader)
      expectThat('replicas', replicas.length > 0 && inSync.length > 0, replicas)
    }
    await expectRefused('unknown topic', UNKNOWN_TOPIC, () => this.admin.describe(this.missing))
  },

  async 'describe-configs'() {
    const configs = await this.admin.configs(this.topic)
    expect('retention.ms', ['3600000', false, false, false], configs['retention.ms'])
    expect('max.message.bytes', ['1048588', true, false, false], configs['max.message.bytes'])
    await expectRefused('unknown topic', UNKNOWN_TOPIC, () => this.admin.configs(this.missing))
  },

  async 'alter-configs'() {
    await this.admin.alter(this.topic, { 'max.message.bytes': '2000000' })
    const shown = async () => {
      const configs = await this.admin.configs(this.topic)
      return [configs['max.message.bytes'].slice(0, 2), configs['retention.ms'].slice(0, 2)]
    }
    const wanted = [['2000000', false], ['604800000', true]]
    await waitUntil('the altered configs', 60, async () => `${await shown()}` === `${wanted}`, shown)
    await expectRefused('bad value', INVALID_CONFIG, () => this.admin.alter(this.topic, { 'retention.ms': 'abc' }))
    expect('configs after a refusal', wanted, await shown())
  },

  async 'create-partitions'() {
    await this.admin.grow(this.topic, 5)
    await waitUntil('5 partitions', 60, async () => (await this.ids()).length === 5)
    expect('partitions', range(0, 5), await this.ids())
    await expectRefused('to 5 again', INVALID_PARTITIONS, () => this.admin.grow(this.topic, 5))
    await expectRefused('to 4', INVALID_PARTITIONS, () => this.admin.grow(this.topic, 4))
    await expectRefused('unknown topic', UNKNOWN_TOPIC, () => this.admin.grow(this.missing, 5))
  },

  async 'delete-records'() {
    await this.run.sendAll(this.topic, {}, range(0, 20).map(i => record(Buffer.from(`${i}`), { partition: 0 })))
    const low = await this.admin.deleteRecords(this.topic, 0, 12)
    expectThat('low watermark', low === 12 || low === null, low)
    expect('beginning and end', [12, 20], await this.admin.bounds(this.topic, 0))
    await this.run.reader('earliest', async reader => {
      await reader.assign(this.topic, { 0: 0 })
      expect('what is left', range(12, 20), (await read(reader, 8)).map(r => r.offset))
    })
    await expectRefused('before 1000', OFFSET_OUT_OF_RANGE, () => this.admin.deleteRecords(this.topic, 0, 1000))
  },

  async 'describe-producers'() {
    throw new Without('describe-producers')
  },

  async 'describe-log-dirs'() {
    throw new Without('describe-log-dirs')
  },

  async 'describe-group'() {
    this.member = await Member.join(this.run, this.topic, this.group)
    const ids = await this.ids()
    await waitUntil('the assignment', PATIENCE, () => this.member.owned.size === ids.length, () => this.member.state())
    const shown = () => this.admin.group(this.group)
    const wanted = JSON.stringify({ state: 'Stable', protocolType: 'consumer', shares: [ids] })
    await waitUntil('the group', 60, async () => JSON.stringify(await shown()) === wanted, shown)
    expectThat('group listed', (await this.admin.groups()).includes(this.group))
  },

  async 'delete-nonempty-group'() {
    await expectRefused('delete', NON_EMPTY_GROUP, () => this.admin.deleteGroup(this.group))
  },

  async 'list-offsets'() {
    await this.member.consumer.commitAt({ 0: 15 })
    await this.member.close()
    const state = async () => (await this.admin.group(this.group)).state
    await waitUntil('Empty', 60, async () => (await state()) === 'Empty', state)
    expect('committed', { 0: 15 }, await this.admin.committed(this.group, this.topic))
  },

  async 'alter-offsets'() {
    await this.admin.alterOffsets(this.group, this.topic, { 0: 13 })
    expect('altered', { 0: 13 }, await this.admin.committed(this.group, this.topic))
  },

  async 'delete-offsets'() {
    throw new Without('delete-offsets')
  },

  async 'delete-group'() {
    await this.admin.deleteGroup(this.group)
    expectThat('group gone', !(await this.admin.groups()).includes(this.group))
    await expectRefused('unknown group', GROUP_ID_NOT_FOUND, () => this.admin.deleteGroup(this.group))
  },

  async 'delete-topic'() {
    // A broker may still answer what a closed member sent last, behind its waiting fetch: a metadata request that would
    // create the topic again.
    await sleep(1000)
    await this.admin.delete(this.topic)
    await this.admin.delete(this.other)
    await waitUntil('both gone', 60, async () => {
      const listed = await this.admin.list()
      return !listed.includes(this.topic) && !listed.includes(this.other)
    })
    await expectRefused('again', UNKNOWN_TOPIC, () => this.admin.delete(this.topic))
  },
}
