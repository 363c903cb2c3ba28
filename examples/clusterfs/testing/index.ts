/** A real cluster on the loopback interface, for tests and for trying clusterfs out. */
export { findRedisServer, LocalCluster, type LocalClusterOptions, type LocalNode } from './server.ts';
