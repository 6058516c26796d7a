// One visitor's story, by posthog-node.
import { PostHog } from 'posthog-node'

const { host, key, tag, mode, fillers, viewed, traits, longAgo } = JSON.parse(process.env.SETTINGS)
process.env.POSTHOG_CAPTURE_MODE = mode
const anon = `anon-${tag}`, user = `user-${tag}`, old = `old-${tag}`
const errors = []
const awake = setInterval(() => {}, 1000) // The library's own timers do not keep a program alive that waits for it.
const posthog = new PostHog(key, { host, flushAt: 5, flushInterval: 200, fetchRetryDelay: 100 })
posthog.on('error', (error) => errors.push(String(error.message ?? error)))

posthog.capture({ distinctId: anon, event: '$pageview', properties: { $current_url: 'https://shop.example/pricing' } })
posthog.capture({ distinctId: anon, event: '$screen', properties: { $screen_name: 'Cart' } })
posthog.capture({ distinctId: anon, event: 'Product Viewed', properties: viewed })
posthog.capture({ distinctId: anon, event: 'Long Ago', timestamp: new Date(longAgo), properties: { n: 1 } })
posthog.capture({ distinctId: old, event: 'From Another Device' })
for (let n = 0; n < fillers; n++) {
  posthog.capture({ distinctId: anon, event: 'Filler', properties: { n } })
  if (n % 3 === 0) await posthog.flush() // else all that waits goes in one request
}
posthog.identify({ distinctId: user, properties: { $anon_distinct_id: anon, $set: traits, $set_once: { plan: 'free', source: 'ad' } } })
posthog.capture({
  distinctId: user, event: 'Order Completed', groups: { company: `acme-${tag}` },
  properties: { revenue: 416.21, $set: { orders: 1 }, $set_once: { first: 'scarf' } },
})
posthog.setPersonProperties({ distinctId: user, properties: { plan: 'team' }, propertiesOnce: { source: 'mail' } })
posthog.unsetPersonProperties({ distinctId: user, properties: ['age'] })
posthog.groupIdentify({ groupType: 'company', groupKey: `acme-${tag}`, properties: { seats: 5 }, distinctId: user })
posthog.alias({ distinctId: user, alias: old })
posthog.capture({ distinctId: user, event: '$ai_generation', properties: { $ai_model: 'm', $ai_input_tokens: 3 } })
const flag = await posthog.isFeatureEnabled('beta', user)
await posthog.shutdown(60_000)
clearInterval(awake)
console.log(JSON.stringify({ errors, flag: flag ?? null }))
