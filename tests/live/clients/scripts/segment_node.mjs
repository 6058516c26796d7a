// The calls of SETTINGS, by @segment/analytics-node.
import { Analytics } from '@segment/analytics-node'

const { host, key, calls, flushAt } = JSON.parse(process.env.SETTINGS)
const errors = []
const analytics = new Analytics({ writeKey: key, host, flushAt, flushInterval: 200 })
analytics.on('error', (error) => errors.push(`${error.code}: ${error.reason?.message ?? error.reason}`))
for (const { type, timestamp, ...call } of calls) {
  analytics[type](timestamp ? { ...call, timestamp: new Date(timestamp) } : call)
}
await analytics.closeAndFlush({ timeout: 60_000 })
console.log(JSON.stringify({ errors }))
