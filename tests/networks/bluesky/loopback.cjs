// Preloaded: servers that would listen on every interface listen on the loopback alone.
'use strict'

const net = require('node:net')

const listen = net.Server.prototype.listen

net.Server.prototype.listen = function (...args) {
  const [target, ...rest] = args
  if (typeof target === 'number' || (typeof target === 'string' && /^\d+$/.test(target))) {
    const listening = rest.filter((argument) => typeof argument === 'function')
    return listen.call(this, { port: Number(target), host: '127.0.0.1' }, ...listening)
  }
  if (target !== null && typeof target === 'object' && 'port' in target) {
    return listen.call(this, { ...target, host: '127.0.0.1' }, ...rest)
  }
  return listen.apply(this, args)
}
