// main.js <library> <scenario> <bootstrap> [key=value ...]: see SCENARIOS.md, one folder up.

import { randomBytes } from 'node:crypto'

import { admin } from './admin.js'
import { group } from './groups.js'
import { Differs, Refused, Without, range, waitUntil } from './records.js'
import * as scenarios from './scenarios.js'

const LIBRARIES = { kafkajs: './lib_kafkajs.js', confluent: './lib_confluent.js' }
const { defaults, codecs, shapes, sizes, partitions, manual, interopWrite, interopRead, restart } = scenarios
const ALL = { defaults, codecs, shapes, sizes, partitions, manual, group, admin }
const SINGLE = { 'interop-write': interopWrite, 'interop-read': interopRead, restart }
const KEYS = {
  'interop-write': ['topic', 'count', 'codec', 'profile'],
  'interop-read': ['topic', 'count', 'codec', 'profile', 'without'],
  restart: ['topic', 'count', 'pace'],
}

/** One scenario being run: its names and what the library could not do. */
class Run {
  without = new Set()

  constructor(libraryName, library, scenario, bootstrap, keys) {
    Object.assign(this, { library, bootstrap, prefix: `${scenario}-${libraryName}-${keys.run}`, settle: keys.settle === 'yes' })
  }

  topic(part) {
    return part ? `${this.prefix}-${part}` : this.prefix
  }

  /** Notes the word when the library lacks it. */
  lack(word) {
    if (this.library.cannot.has(word)) this.without.add(word)
    return this.library.cannot.has(word)
  }

  async using(made, use) {
    const thing = await made
    try {
      return await use(thing)
    } finally {
      await thing.close()
    }
  }

  producer(options, use) {
    return this.using(this.library.producer(this.bootstrap, options), use)
  }

  reader(reset, use) {
    return this.using(this.library.reader(this.bootstrap, reset), use)
  }

  admin(use) {
    return this.using(this.library.admin(this.bootstrap), use)
  }

  /** Sends with a producer of its own, without waiting for each other; the acknowledgements as [partition, offset]. */
  sendAll(topic, options, records) {
    return this.producer(options, producer => producer.sendAll(topic, records))
  }

  /** Creates the topic; with settle=yes waits until ListOffsets of all its partitions succeeds. */
  async create(part, partitions, configs = {}) {
    const topic = this.topic(part)
    await this.admin(async admin => {
      await admin.create(topic, partitions, 1, configs)
      if (!this.settle) return
      const answers = p => admin.bounds(topic, p).then(() => true, () => false)
      for (const p of range(0, partitions)) await waitUntil(`${topic} ${p}`, 60, () => answers(p))
    })
    return topic
  }
}

function usage(message) {
  console.error(`${message}\nusage: <library> <scenario> <bootstrap> [key=value ...]`)
  process.exit(2)
}

function parse([library, scenario, bootstrap, ...pairs]) {
  if (!bootstrap) usage('three arguments are needed')
  if (!LIBRARIES[library]) usage(`unknown library ${library}; there are ${Object.keys(LIBRARIES).join(', ')}`)
  if (!ALL[scenario] && !SINGLE[scenario] && scenario !== 'all') usage(`unknown scenario ${scenario}`)
  const known = ['run', 'deadline', 'settle', ...(KEYS[scenario] ?? [])]
  const keys = {}
  for (const pair of pairs) {
    const at = pair.indexOf('=')
    if (at < 0 || !known.includes(pair.slice(0, at))) usage(`unknown key ${pair}`)
    keys[pair.slice(0, at)] = pair.slice(at + 1)
  }
  if (known.includes('topic') && !keys.topic) usage('topic=<name> is missing')
  keys.run ??= randomBytes(4).toString('hex')
  if (!/^[a-z0-9-]{1,32}$/.test(keys.run)) usage('run must match [a-z0-9-]{1,32}')
  return { library, scenario, bootstrap, keys }
}

function ok(name, details, without) {
  console.log(`ok ${name} ${details}${without.size > 0 ? ` without=${[...without].sort().join(',')}` : ''}`)
}

async function main() {
  const { library: name, scenario, bootstrap, keys } = parse(process.argv.slice(2))
  const chosen = Object.entries(scenario === 'all' ? ALL : { [scenario]: ALL[scenario] ?? SINGLE[scenario] })
  const pending = new Set(chosen.map(([which]) => which))
  const seconds = +(keys.deadline ?? 90)
  setTimeout(() => {
    console.error(`deadline of ${seconds} s reached in ${[...pending].join(', ')}`)
    process.exit(1)
  }, seconds * 1000)
  const library = await import(LIBRARIES[name])
  const missing = new Set()
  let failed = false
  await Promise.all(chosen.map(async ([which, scenario]) => {
    const run = new Run(name, library, which, bootstrap, keys)
    try {
      const details = await scenario(run, keys).catch(failure => {
        if (!(failure instanceof Without)) throw failure
        run.without.add(failure.word)
        return 'steps=0'
      })
      ok(which, details, run.without)
      run.without.forEach(word => missing.add(word))
    } catch (failure) {
      failed = true
      const known = failure instanceof Differs || failure instanceof Refused
      console.error(`${which}: ${known ? failure.message : failure.stack}`)
      if (failure.cause) console.error(failure.cause)
    }
    pending.delete(which)
  }))
  if (!failed && scenario === 'all') ok('all', `scenarios=${chosen.length}`, missing)
  process.exit(failed ? 1 : 0)
}

await main()
