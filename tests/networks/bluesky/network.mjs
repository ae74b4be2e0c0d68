// A whole Bluesky network (directory, personal data server, relay subscription, AppView) in one process, and a second
// personal data server with the rate limits of production. Usage: node network.mjs <installed folder> <endpoints file>
import { rename, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [folder, endpointsFile] = process.argv.slice(2)
const installed = createRequire(join(folder, 'package.json'))
const { TestNetwork, TestPds } = await import(pathToFileURL(installed.resolve('@atproto/dev-env')))

const home = { hostname: 'localhost', enableDidDocWithSession: true, jwtSecret: process.env.JWT_SECRET }
const network = await TestNetwork.create({ dbPostgresSchema: 'regie', pds: home })
const limited = await TestPds.create({ ...home, didPlcUrl: network.plc.url, rateLimitsEnabled: true })

const stop = async () => {
  await Promise.allSettled([limited.close(), network.close()])
  process.exit(0)
}
process.once('SIGTERM', stop)

// A test run that was killed sends no signal.
const parent = process.ppid
setInterval(() => process.ppid === parent || stop(), 1000).unref()

const endpoints = { pds_url: network.pds.url, limited_pds_url: limited.url, appview_url: network.bsky.url }
await writeFile(`${endpointsFile}.part`, JSON.stringify(endpoints))
await rename(`${endpointsFile}.part`, endpointsFile)
