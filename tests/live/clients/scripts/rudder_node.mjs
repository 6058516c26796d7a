// The calls of SETTINGS, by @rudderstack/rudder-sdk-node.
import Analytics from '@rudderstack/rudder-sdk-node'

const { host, key, calls, flushAt } = JSON.parse(process.env.SETTINGS)
const errors = []
const client = new Analytics(key, {
  dataPlaneUrl: host, flushAt, flushInterval: 200, errorHandler: (error) => errors.push(String(error.message ?? error)),
})
const told = calls.map(({ type, timestamp, ...call }) => new Promise((done) => {
  // Called back once the batch that it is in was answered, or given up.
  client[type](timestamp ? { ...call, timestamp: new Date(timestamp) } : call, done)
}))
await Promise.all(told)
console.log(JSON.stringify({ errors }))
process.exit(0)
