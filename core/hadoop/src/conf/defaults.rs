//! Hadoop's defaults of the keys that are used here, and the old names of keys.
//!
//! From `core-default.xml`, `hdfs-default.xml` and `yarn-default.xml` of 3.3.6, 3.4.2 and 3.5.0, which agree on
//! all of these except where a comment says so. Keys without a default have none in Hadoop either.

/// Port of a NameNode whose address has none (`HdfsClientConfigKeys.DFS_NAMENODE_RPC_PORT_DEFAULT`).
pub const NAMENODE_PORT: u16 = 8020;

/// Key and default.
pub(super) const DEFAULTS: &[(&str, &str)] = &[
    ("fs.defaultFS", "file:///"),
    ("fs.permissions.umask-mode", "022"),
    ("hadoop.rpc.protection", "authentication"),
    ("hadoop.security.authentication", "simple"),
    ("hadoop.security.authorization", "false"),
    ("hadoop.security.token.service.use_ip", "true"),
    ("hadoop.tmp.dir", "/tmp/hadoop-${user.name}"),
    ("ipc.client.connect.timeout", "20000"),
    ("ipc.client.connection.maxidletime", "10000"),
    ("ipc.client.fallback-to-simple-auth-allowed", "false"),
    // 0 (wait for ever) in 3.3, where a lost answer hung the caller; 120000 since 3.4.
    ("ipc.client.rpc-timeout.ms", "120000"),
    ("ipc.maximum.data.length", "134217728"),
    ("ipc.maximum.response.length", "134217728"),
    ("ipc.ping.interval", "60000"),
    ("dfs.blocksize", "134217728"),
    ("dfs.client.failover.max.attempts", "15"),
    ("dfs.client.failover.sleep.base.millis", "500"),
    ("dfs.client.failover.sleep.max.millis", "15000"),
    ("dfs.client.socket-timeout", "60000"),
    ("dfs.client.use.datanode.hostname", "false"),
    ("dfs.http.policy", "HTTP_ONLY"),
    ("dfs.namenode.http-address", "0.0.0.0:9870"),
    ("dfs.namenode.https-address", "0.0.0.0:9871"),
    ("dfs.namenode.kerberos.principal.pattern", "*"),
    ("dfs.permissions.enabled", "true"),
    ("dfs.replication", "3"),
    ("yarn.acl.enable", "false"),
    ("yarn.admin.acl", "*"),
    // 600000 in 3.3. The shorter one is safe with both.
    ("yarn.am.liveness-monitor.expiry-interval-ms", "600000"),
    ("yarn.client.failover-retries", "0"),
    ("yarn.cluster.max-application-priority", "0"),
    ("yarn.http.policy", "HTTP_ONLY"),
    ("yarn.log-aggregation-enable", "false"),
    ("yarn.log-aggregation.file-formats", "TFile"),
    ("yarn.nodemanager.amrmproxy.address", "0.0.0.0:8049"),
    ("yarn.nodemanager.amrmproxy.enabled", "false"),
    ("yarn.nodemanager.hostname", "0.0.0.0"),
    ("yarn.nodemanager.remote-app-log-dir", "/tmp/logs"),
    ("yarn.nodemanager.remote-app-log-dir-include-older", "true"),
    ("yarn.nodemanager.remote-app-log-dir-suffix", "logs"),
    ("yarn.nodemanager.sleep-delay-before-sigkill.ms", "250"),
    ("yarn.nodemanager.webapp.address", "${yarn.nodemanager.hostname}:8042"),
    ("yarn.nodemanager.webapp.https.address", "0.0.0.0:8044"),
    ("yarn.resourcemanager.address", "${yarn.resourcemanager.hostname}:8032"),
    ("yarn.resourcemanager.admin.address", "${yarn.resourcemanager.hostname}:8033"),
    ("yarn.resourcemanager.am.max-attempts", "2"),
    ("yarn.resourcemanager.application-https.policy", "NONE"),
    ("yarn.resourcemanager.connect.max-wait.ms", "900000"),
    ("yarn.resourcemanager.connect.retry-interval.ms", "30000"),
    ("yarn.resourcemanager.ha.enabled", "false"),
    ("yarn.resourcemanager.hostname", "0.0.0.0"),
    ("yarn.resourcemanager.max-completed-applications", "1000"),
    ("yarn.resourcemanager.nodemanagers.heartbeat-interval-ms", "1000"),
    ("yarn.resourcemanager.placement-constraints.handler", "disabled"),
    ("yarn.resourcemanager.resource-tracker.address", "${yarn.resourcemanager.hostname}:8031"),
    ("yarn.resourcemanager.rm.container-allocation.expiry-interval-ms", "600000"),
    ("yarn.resourcemanager.scheduler.address", "${yarn.resourcemanager.hostname}:8030"),
    ("yarn.resourcemanager.webapp.address", "${yarn.resourcemanager.hostname}:8088"),
    ("yarn.resourcemanager.webapp.https.address", "${yarn.resourcemanager.hostname}:8090"),
    ("yarn.scheduler.maximum-allocation-mb", "8192"),
    ("yarn.scheduler.maximum-allocation-vcores", "4"),
    ("yarn.scheduler.minimum-allocation-mb", "1024"),
    ("yarn.scheduler.minimum-allocation-vcores", "1"),
];

/// Old name and the name that replaced it: those of Hadoop's own list that concern a client.
const DEPRECATED: &[(&str, &str)] = &[
    ("dfs.block.size", "dfs.blocksize"),
    ("dfs.encryption.key.provider.uri", "hadoop.security.key.provider.path"),
    ("dfs.federation.nameservice.id", "dfs.nameservice.id"),
    ("dfs.federation.nameservices", "dfs.nameservices"),
    ("dfs.http.address", "dfs.namenode.http-address"),
    ("dfs.https.address", "dfs.namenode.https-address"),
    ("dfs.permissions", "dfs.permissions.enabled"),
    ("dfs.permissions.supergroup", "dfs.permissions.superusergroup"),
    ("dfs.socket.timeout", "dfs.client.socket-timeout"),
    ("dfs.umaskmode", "fs.permissions.umask-mode"),
    ("dfs.write.packet.size", "dfs.client-write-packet-size"),
    ("fs.default.name", "fs.defaultFS"),
    ("topology.script.file.name", "net.topology.script.file.name"),
    ("yarn.client.max-nodemanagers-proxies", "yarn.client.max-cached-nodemanagers-proxies"),
];

/// The name that is valid today, and the old one when that was given.
pub(super) fn current_name(name: &str) -> (&str, Option<&'static str>) {
    match DEPRECATED.iter().find(|(old, _)| *old == name) {
        Some((old, new)) => (new, Some(old)),
        None => (name, None),
    }
}
