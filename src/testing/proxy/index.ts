export { ProxyError } from './errors.ts';
export {
  type LatencyProxy,
  type LatencyProxyCounters,
  type LatencyProxyOptions,
  type LatencyProxySettings,
  latencyProxy,
} from './proxy.ts';
