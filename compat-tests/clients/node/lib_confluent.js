// @confluentinc/kafka-javascript: librdkafka for Node. Producer and consumer through its callback interface (it has more, such
// as assignment by hand); the admin client and, in `defaults-promises`, producer and consumer through its promises.
// Without: `null-headers` (fails to write them, reads them as empty), `timestamp-type` (not shown); of `create-errors` validate only;
// `describe-cluster`, `describe-configs`, `alter-configs`, `alter-offsets`, `delete-offsets`, `describe-producers`,
// `describe-log-dirs` (no such calls).

import confluent from '@confluentinc/kafka-javascript'

import { FENCED_INSTANCE_ID, OFFSET_OUT_OF_RANGE, Refused, Without } from './records.js'

const { KafkaConsumer, Producer } = confluent
const { Kafka } = confluent.KafkaJS

export const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
export const cannot = new Set(['null-headers', 'timestamp-type'])
export const blurs = ['null-headers']
export const variants = { promises: { promises: true } }

const CALL_MS = 60_000
const FATAL = -150
const AUTO_OFFSET_RESET = -140
const ASSIGN = -175
const SILENT = { logLevel: confluent.KafkaJS.logLevel.NOTHING }

/** An empty Buffer without memory behind it would be sent as null. */
const solid = buffer => (buffer?.length === 0 ? Buffer.from(' ').subarray(0, 0) : buffer)

/** Turns the library's errors into Refused. */
function refused(failure) {
  const inner = failure.errors?.[0] ?? failure.partitions?.[0]?.error ?? failure.groups?.[0]?.error
  if (inner) return refused(inner)
  if (failure.code === AUTO_OFFSET_RESET) return new Refused(OFFSET_OUT_OF_RANGE, failure.message)
  // The library says no more than that it is fatal; being fenced is the one error that is, for a consumer.
  if (failure.code === FATAL) return new Refused(FENCED_INSTANCE_ID, failure.message)
  return typeof failure.code === 'number' ? new Refused(failure.code, failure.message) : failure
}

/** Calls a function that takes a Node callback last. */
function call(thing, name, ...given) {
  return new Promise((resolve, reject) => {
    thing[name](...given, (error, result) => (error ? reject(refused(error)) : resolve(result)))
  })
}

async function awaited(promise) {
  try {
    return await promise
  } catch (failure) {
    throw refused(failure)
  }
}

export async function producer(bootstrap, options) {
  if (options.promises) return promisedProducer(bootstrap)
  const { codec, maxBytes, idempotent } = options
  const inner = new Producer({
    'bootstrap.servers': bootstrap,
    dr_cb: true,
    ...(codec && { 'compression.type': codec }),
    ...(maxBytes && { 'message.max.bytes': maxBytes }),
    ...(idempotent && { 'enable.idempotence': true }),
  })
  inner.on('delivery-report', (error, report) => report.opaque(error, report))
  await call(inner, 'connect', {})
  inner.setPollInterval(10)
  const send = (topic, r) =>
    new Promise((resolve, reject) => {
      const done = (error, report) => (error ? reject(refused(error)) : resolve([report.partition, report.offset]))
      const headers = r.headers.map(([name, value]) => ({ [name]: value }))
      inner.produce(topic, r.partition ?? null, solid(r.value), solid(r.key), r.timestamp, done, headers)
    })
  return {
    sendAll: (topic, records) => Promise.all(records.map(r => send(topic, r))),
    close: () => call(inner, 'disconnect'),
  }
}

async function promisedProducer(bootstrap) {
  const inner = new Kafka({ kafkaJS: { brokers: [bootstrap], ...SILENT } }).producer()
  await awaited(inner.connect())
  return {
    async sendAll(topic, records) {
      const answers = await Promise.all(records.map(({ key, value }) => awaited(inner.send({ topic, messages: [{ key, value }] }))))
      return answers.map(([a]) => [a.partition, Number(a.baseOffset)])
    },
    close: () => inner.disconnect(),
  }
}

function recordIn({ key, value, headers, timestamp, partition, offset }) {
  const list = (headers ?? []).flatMap(one => Object.entries(one))
  return { key, value, headers: list, timestamp, partition, offset }
}

async function connected(bootstrap, config, topicConfig) {
  const inner = new KafkaConsumer({ 'bootstrap.servers': bootstrap, ...config }, topicConfig)
  await call(inner, 'connect', {})
  inner.setDefaultConsumeTimeout(100)
  return inner
}

const bounds = async (inner, topic, partition) => {
  const found = await call(inner, 'queryWatermarkOffsets', topic, partition, CALL_MS)
  return [found.lowOffset, found.highOffset]
}

export async function reader(bootstrap, reset) {
  const config = { 'group.id': 'not-used', 'enable.auto.commit': false }
  const inner = await connected(bootstrap, config, { 'auto.offset.reset': reset === 'none' ? 'error' : reset })
  return {
    assign: async (topic, starts) => inner.assign(Object.entries(starts).map(([p, offset]) => ({ topic, partition: +p, offset }))),
    seek: (topic, partition, offset) => call(inner, 'seek', { topic, partition, offset }, CALL_MS),
    poll: async () => (await call(inner, 'consume', 500)).map(recordIn),
    bounds: (topic, partition) => bounds(inner, topic, partition),
    async offsetForTime(topic, partition, time) {
      const [found] = await call(inner, 'offsetsForTimes', [{ topic, partition, offset: time }], CALL_MS)
      return found.offset >= 0 ? found.offset : null
    },
    close: () => call(inner, 'disconnect'),
  }
}

export async function member(bootstrap, topic, group, options, told) {
  if (options.promises) return promisedMember(bootstrap, topic, group, told)
  const config = {
    'group.id': group,
    ...(!options.autoCommit && { 'enable.auto.commit': false }),
    ...(options.instance && { 'group.instance.id': options.instance }),
    ...(options.cooperative && { 'partition.assignment.strategy': 'cooperative-sticky' }),
    rebalance_cb: true,
  }
  const inner = await connected(bootstrap, config, { 'auto.offset.reset': 'earliest' })
  let owned = []
  inner.on('rebalance', (error, parts) => {
    const moved = parts.map(p => p.partition)
    owned = owned.filter(p => !moved.includes(p))
    if (error.code === ASSIGN) owned.push(...moved)
    told.rebalanced(error.code === ASSIGN ? 'assigned' : 'revoked', moved, owned)
  })
  inner.subscribe([topic])
  let stopped = false
  const pump = (async () => {
    while (!stopped) {
      try {
        told.received((await call(inner, 'consume', 500)).map(recordIn))
      } catch (failure) {
        told.failed(failure)
        await new Promise(resolve => setTimeout(resolve, 100))
      }
    }
  })()
  return {
    commitAt: async offsets => inner.commitSync(Object.entries(offsets).map(([p, offset]) => ({ topic, partition: +p, offset }))),
    async close() {
      stopped = true
      await pump
      await call(inner, 'disconnect')
    },
  }
}

async function promisedMember(bootstrap, topic, group, told) {
  const consumer = new Kafka({ kafkaJS: { brokers: [bootstrap], ...SILENT } }).consumer({
    kafkaJS: { groupId: group, fromBeginning: true },
    rebalance_cb: (error, parts) => {
      const moved = parts.map(p => p.partition)
      told.rebalanced(error.code === ASSIGN ? 'assigned' : 'revoked', moved, error.code === ASSIGN ? moved : [])
    },
  })
  await awaited(consumer.connect())
  await consumer.subscribe({ topic })
  await consumer.run({
    eachMessage: async ({ partition, message }) => {
      const { key, value, timestamp, offset } = message
      told.received([{ key, value, headers: [], timestamp: +timestamp, partition, offset: +offset }])
    },
  })
  return { close: () => consumer.disconnect() }
}

export async function admin(bootstrap) {
  const inner = new Kafka({ kafkaJS: { brokers: [bootstrap], ...SILENT } }).admin()
  await awaited(inner.connect())
  // Asks for metadata and offsets; a consumer's questions do not create topics.
  const asking = await connected(bootstrap, { 'group.id': 'not-used' }, {})
  const lacks = word => async () => { throw new Without(word) }
  return {
    cluster: lacks('describe-cluster'),
    nodes: async () => ({ nodes: (await call(asking, 'getMetadata', { timeout: CALL_MS })).brokers.map(b => b.id) }),
    async create(topic, numPartitions, replicationFactor, configs, validateOnly = false) {
      if (validateOnly) throw new Without('create-errors')
      const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
      // It answers false instead of failing when the topic exists.
      const created = await awaited(inner.createTopics({ topics: [{ topic, numPartitions, replicationFactor, configEntries }] }))
      if (!created) throw new Refused(36)
    },
    list: () => awaited(inner.listTopics()),
    async describe(topic) {
      const described = await awaited(inner.fetchTopicMetadata({ topics: [topic] }))
      const [found] = described.topics ?? described
      if (found.error) throw refused(found.error)
      return found.partitions.map(p => ({ id: p.partitionId, leader: p.leader, replicas: p.replicas, inSync: p.isr }))
    },
    configs: lacks('describe-configs'),
    alter: lacks('alter-configs'),
    // Only the callback interface has it.
    async grow(topic, count) {
      const client = confluent.AdminClient.create({ 'bootstrap.servers': bootstrap })
      try {
        await call(client, 'createPartitions', topic, count, CALL_MS)
      } finally {
        client.disconnect()
      }
    },
    async deleteRecords(topic, partition, before) {
      const [found] = await awaited(inner.deleteTopicRecords({ topic, partitions: [{ partition, offset: `${before}` }] }))
      return found.lowWatermark
    },
    bounds: (topic, partition) => bounds(asking, topic, partition),
    async group(group) {
      const { groups } = await awaited(inner.describeGroups([group]))
      const name = Object.entries(confluent.KafkaJS.ConsumerGroupStates).find(([, value]) => value === groups[0].state)?.[0] ?? ''
      const share = m => m.assignment.topicPartitions.map(p => p.partition).sort((a, b) => a - b)
      return { state: name[0] + name.slice(1).toLowerCase(), protocolType: groups[0].protocolType, shares: groups[0].members.map(share) }
    },
    groups: async () => (await awaited(inner.listGroups())).groups.map(g => g.groupId),
    async committed(groupId, topic) {
      const [found] = await awaited(inner.fetchOffsets({ groupId, topics: [topic] }))
      return Object.fromEntries((found?.partitions ?? []).filter(p => +p.offset >= 0).map(p => [p.partition, +p.offset]))
    },
    alterOffsets: lacks('alter-offsets'),
    deleteGroup: group => awaited(inner.deleteGroups([group])),
    delete: topic => awaited(inner.deleteTopics({ topics: [topic] })),
    async close() {
      await call(asking, 'disconnect')
      await inner.disconnect()
    },
  }
}
