// kafkajs. Without: `manual-assignment` (it only reads as a group member: a reader here is the only member of a group of its
// own, and seeks), `reset-none`, `static`, `cooperative` (there are none), `header-order` (headers are an object of lists by
// name), `null-headers` (fails to write them), `describe-producers`, `describe-log-dirs`, `delete-offsets` (no such calls). Its `alter-configs` is the older, not
// incremental request. lz4 and zstd are codecs from other packages, plugged in as its documentation says.

import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import lz4 from 'lz4-napi'
import { ZstdCodec } from 'zstd-codec'

import { Refused, Without } from './records.js'

const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = kafkajs
const zstd = await new Promise(resolve => ZstdCodec.run(codec => resolve(new codec.Streaming())))

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: buffer => Buffer.from(zstd.decompress(buffer)),
})
const TYPES = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' }

export const codecs = Object.keys(TYPES)
export const cannot = new Set(['null-headers', 'manual-assignment', 'reset-none', 'static', 'cooperative', 'header-order'])
export const blurs = ['header-order']
export const variants = {}

let groups = 0
const client = (bootstrap, more) => new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING, ...more })

/** Turns the library's errors into Refused. */
function refused(failure) {
  if (failure.groups?.[0]) return new Refused(failure.groups[0].errorCode, failure.message)
  const inner = failure.errors?.[0] ?? failure.partitions?.[0]?.error ?? failure.cause
  if (inner) return refused(inner)
  return typeof failure.code === 'number' ? new Refused(failure.code, failure.message) : failure
}

async function call(promise) {
  try {
    return await promise
  } catch (failure) {
    throw refused(failure)
  }
}

export async function producer(bootstrap, { codec, idempotent, patient }) {
  const chosen = new WeakMap()
  // By default it gives up connecting after five attempts; a minute of them here.
  const retry = patient && { retry: { retries: 100, maxRetryTime: 1000 } }
  const inner = client(bootstrap, retry).producer({
    ...(idempotent && { idempotent }),
    ...retry,
    // The default one, but noting what it chose: the acknowledgements only tell the base offset of each partition.
    createPartitioner: () => {
      const choose = Partitioners.DefaultPartitioner()
      return given => {
        chosen.set(given.message, choose(given))
        return chosen.get(given.message)
      }
    },
  })
  await call(inner.connect())
  return {
    async sendAll(topic, records) {
      const messages = records.map(r => ({
        key: r.key,
        value: r.value,
        headers: headersOut(r.headers),
        ...(r.partition !== undefined && { partition: r.partition }),
        ...(r.timestamp !== undefined && { timestamp: `${r.timestamp}` }),
      }))
      const compression = codec && { compression: CompressionTypes[TYPES[codec]] }
      const answers = await call(inner.send({ topic, messages, ...compression }))
      const next = Object.fromEntries(answers.map(a => [a.partition, Number(a.baseOffset)]))
      return messages.map(m => [chosen.get(m), next[chosen.get(m)]++])
    },
    close: () => inner.disconnect(),
  }
}

function headersOut(headers) {
  const out = {}
  for (const [name, value] of headers) out[name] = name in out ? [out[name], value].flat() : value
  return out
}

function recordIn(partition, message) {
  const headers = Object.entries(message.headers ?? {}).flatMap(([name, v]) => (Array.isArray(v) ? v.map(one => [name, one]) : [[name, v]]))
  const { key, value, timestamp, offset, batchContext } = message
  return { key, value, headers, timestamp: +timestamp, partition, offset: +offset, logAppend: batchContext.timestampType === 1 }
}

export async function reader(bootstrap, reset) {
  const kafka = client(bootstrap)
  const admin = kafka.admin()
  await call(admin.connect())
  const consumer = kafka.consumer({ groupId: `reader-${process.pid}-${Date.now()}-${groups++}` })
  let buffered = []
  const wanted = {}
  return {
    async assign(topic, starts) {
      await call(consumer.connect())
      await consumer.subscribe({ topic, fromBeginning: reset === 'earliest' })
      const joined = new Promise(resolve => consumer.on(consumer.events.GROUP_JOIN, resolve))
      await consumer.run({
        autoCommit: false,
        eachMessage: async ({ partition, message }) => {
          // What was on its way before a seek.
          if (wanted[partition] !== undefined && Number(message.offset) !== wanted[partition]) return
          delete wanted[partition]
          buffered.push(recordIn(partition, message))
        },
      })
      for (const [p, offset] of Object.entries(starts)) if (offset > 0) consumer.seek({ topic, partition: +p, offset: `${offset}` })
      await joined
    },
    async seek(topic, partition, offset) {
      wanted[partition] = offset
      consumer.seek({ topic, partition, offset: `${offset}` })
      buffered = []
    },
    async poll(ms) {
      for (const end = Date.now() + ms; buffered.length === 0 && Date.now() < end; ) await new Promise(resolve => setTimeout(resolve, 10))
      return buffered.splice(0)
    },
    bounds: (topic, partition) => bounds(admin, topic, partition),
    async offsetForTime(topic, partition, time) {
      // It answers the end offset where there is none.
      const found = await call(admin.fetchTopicOffsetsByTimestamp(topic, time))
      const offset = Number(found.find(f => f.partition === partition).offset)
      return offset === (await bounds(admin, topic, partition))[1] ? null : offset
    },
    async close() {
      await consumer.disconnect()
      await admin.disconnect()
    },
  }
}

async function bounds(admin, topic, partition) {
  const found = (await call(admin.fetchTopicOffsets(topic))).find(f => f.partition === partition)
  return [+found.low, +found.high]
}

export async function member(bootstrap, topic, group, { autoCommit = false }, told) {
  const consumer = client(bootstrap).consumer({ groupId: group })
  let owned = []
  consumer.on(consumer.events.REBALANCING, () => told.rebalanced('revoked', owned, (owned = [])))
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    owned = payload.memberAssignment[topic] ?? []
    told.rebalanced('assigned', owned, owned)
  })
  consumer.on(consumer.events.CRASH, ({ payload }) => told.failed(refused(payload.error)))
  await call(consumer.connect())
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    ...(!autoCommit && { autoCommit }),
    eachMessage: async ({ partition, message }) => told.received([recordIn(partition, message)]),
  })
  return {
    commitAt: offsets =>
      call(consumer.commitOffsets(Object.entries(offsets).map(([p, offset]) => ({ topic, partition: +p, offset: `${offset}` })))),
    close: () => consumer.disconnect(),
  }
}

export async function admin(bootstrap) {
  const inner = client(bootstrap).admin()
  await call(inner.connect())
  const resource = topic => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic })
  const cluster = async () => {
    const { clusterId, brokers, controller } = await call(inner.describeCluster())
    return { id: clusterId, nodes: brokers.map(b => b.nodeId), controller }
  }
  return {
    cluster,
    nodes: cluster,
    async create(topic, numPartitions, replicationFactor, configs, validateOnly = false) {
      const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
      // It answers false instead of failing when the topic exists.
      const created = await call(inner.createTopics({
        topics: [{ topic, numPartitions, replicationFactor, configEntries }], validateOnly, waitForLeaders: false,
      }))
      if (!created) throw new Refused(36)
    },
    list: () => call(inner.listTopics()),
    async describe(topic) {
      const { topics } = await call(inner.fetchTopicMetadata({ topics: [topic] }))
      return topics[0].partitions.map(p => ({ id: p.partitionId, leader: p.leader, replicas: p.replicas, inSync: p.isr }))
    },
    async configs(topic) {
      const { resources } = await call(inner.describeConfigs({ resources: [resource(topic)], includeSynonyms: false }))
      if (resources[0].errorCode) throw new Refused(resources[0].errorCode)
      // Source 5 is the default.
      const shown = c => [c.configValue, c.isDefault || c.configSource === 5, c.isSensitive, c.readOnly]
      return Object.fromEntries(resources[0].configEntries.map(c => [c.configName, shown(c)]))
    },
    alter: (topic, values) =>
      call(inner.alterConfigs({
        validateOnly: false,
        resources: [{ ...resource(topic), configEntries: Object.entries(values).map(([name, value]) => ({ name, value })) }],
      })),
    grow: (topic, count) => call(inner.createPartitions({ topicPartitions: [{ topic, count }] })),
    async deleteRecords(topic, partition, before) {
      await call(inner.deleteTopicRecords({ topic, partitions: [{ partition, offset: `${before}` }] }))
      return null
    },
    bounds: (topic, partition) => bounds(inner, topic, partition),
    async group(group) {
      const { groups } = await call(inner.describeGroups([group]))
      const share = m => Object.values(kafkajs.AssignerProtocol.MemberAssignment.decode(m.memberAssignment).assignment).flat()
      const shares = groups[0].members.map(m => share(m).sort((a, b) => a - b))
      return { state: groups[0].state, protocolType: groups[0].protocolType, shares }
    },
    groups: async () => (await call(inner.listGroups())).groups.map(g => g.groupId),
    async committed(groupId, topic) {
      const [found] = await call(inner.fetchOffsets({ groupId, topics: [topic] }))
      return Object.fromEntries(found.partitions.filter(p => +p.offset >= 0).map(p => [p.partition, +p.offset]))
    },
    alterOffsets: (groupId, topic, offsets) =>
      call(inner.setOffsets({ groupId, topic, partitions: Object.entries(offsets).map(([p, offset]) => ({ partition: +p, offset: `${offset}` })) })),
    deleteOffsets: () => { throw new Without('delete-offsets') },
    deleteGroup: group => call(inner.deleteGroups([group])),
    delete: topic => call(inner.deleteTopics({ topics: [topic] })),
    close: () => inner.disconnect(),
  }
}
