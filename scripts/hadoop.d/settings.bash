# shellcheck shell=bash
# The Hadoop configuration of a cluster, written as XML into
#   $dir/conf          for clients on any host, and for containers
#   $dir/conf-HOST     for the daemons of a host: the same and the host's own addresses and folders
#
# Everything that differs from Hadoop's defaults stands here with its reason. `--set` overrides it:
#   FILE:KEY=VALUE         e.g. hdfs-site:dfs.replication=1
#   FILE@HOST:KEY=VALUE    for the daemons of one host

# HDFS names its blocks' replicas by host and port, so every node can have the same ports.
readonly NAMENODE_RPC_PORT=9000 NAMENODE_HTTP_PORT=9870 RM_HTTP_PORT=8088 NM_RPC_PORT=45451 NM_HTTP_PORT=8042

write_settings() {
  local host
  write_conf "$dir/conf" ''
  for host in "$master" "${nodes[@]}"; do
    write_conf "$dir/conf-$host" "$host"
  done
}

# write_conf FOLDER HOST: HOST is empty for the clients' configuration.
write_conf() {
  local folder=$1 host=$2
  local -A core=() hdfs=() yarn=() mapred=() capacity=()
  core_settings
  hdfs_settings
  yarn_settings
  capacity_settings
  [[ -n $host && $host != "$master" ]] && node_settings "$host"
  extra_settings "$host"
  mkdir -p "$folder"
  write_xml core >"$folder/core-site.xml"
  write_xml hdfs >"$folder/hdfs-site.xml"
  write_xml yarn >"$folder/yarn-site.xml"
  write_xml mapred >"$folder/mapred-site.xml"
  write_xml capacity >"$folder/capacity-scheduler.xml"
  # stderr, so that what a Java client prints can be read by a program.
  cat >"$folder/log4j.properties" <<'LOG'
ringspin.log.level=INFO
log4j.rootLogger=${ringspin.log.level},console
# Said on every start: the Java library is enough here.
log4j.logger.org.apache.hadoop.util.NativeCodeLoader=ERROR
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
LOG
}

core_settings() {
  core[fs.defaultFS]=hdfs://$master:$NAMENODE_RPC_PORT
  core[hadoop.tmp.dir]=$dir/data/tmp
  core[hadoop.proxyuser.root.hosts]='*'
  core[hadoop.proxyuser.root.groups]='*'
}

hdfs_settings() {
  local copies=2
  ((${#nodes[@]} < copies)) && copies=${#nodes[@]}
  hdfs[dfs.replication]=$copies
  hdfs[dfs.namenode.name.dir]=file://$dir/data/name
  hdfs[dfs.namenode.http-address]=$master:$NAMENODE_HTTP_PORT
  # Small files have many blocks: what crosses block borders is tested without large data.
  hdfs[dfs.blocksize]=1048576
  hdfs[dfs.namenode.fs-limits.min-block-size]=1024
  # A warm restart does not wait 30 s in safe mode.
  hdfs[dfs.namenode.safemode.extension]=0
  # A DataNode that is gone is known as dead after 12 s, not after 10 minutes.
  hdfs[dfs.heartbeat.interval]=1
  hdfs[dfs.namenode.heartbeat.recheck-interval]=1000
  # With few nodes the NameNode would refuse a busy one and find no other.
  hdfs[dfs.namenode.redundancy.considerLoad]=false
}

yarn_settings() {
  yarn[yarn.resourcemanager.hostname]=$master
  yarn[yarn.scheduler.minimum-allocation-mb]=64
  yarn[yarn.scheduler.maximum-allocation-mb]=4096
  yarn[yarn.nodemanager.resource.memory-mb]=4096
  yarn[yarn.nodemanager.resource.cpu-vcores]=8
  yarn[yarn.nodemanager.vmem-check-enabled]=false
  # Without memory cgroups the monitor kills a container above its limit only when this is false.
  yarn[yarn.nodemanager.resource.memory.enforced]=false
  # A disk more than 90 % full would make nodes unhealthy and applications wait for ever.
  yarn[yarn.nodemanager.disk-health-checker.enable]=false
  yarn[yarn.nodemanager.delete.debug-delay-sec]=300
  yarn[yarn.log-aggregation-enable]=true
  yarn[yarn.resourcemanager.am.max-attempts]=3
  # Lost ApplicationMasters and nodes are noticed after 10 s, not after 10 minutes.
  yarn[yarn.am.liveness-monitor.expiry-interval-ms]=10000
  yarn[yarn.nm.liveness-monitor.expiry-interval-ms]=10000
  yarn[yarn.resourcemanager.recovery.enabled]=true
  yarn[yarn.resourcemanager.store.class]=org.apache.hadoop.yarn.server.resourcemanager.recovery.FileSystemRMStateStore
  yarn[yarn.resourcemanager.fs.state-store.uri]=file://$dir/data/rm-state
  # By default in /tmp of the machine, for all clusters together.
  yarn[yarn.node-attribute.fs-store.root-dir]=file://$dir/data/node-attributes
  yarn[yarn.node-labels.fs-store.root-dir]=file://$dir/data/node-labels
  # A NodeManager that finds no ResourceManager tries again after 1 s, not after 30.
  yarn[yarn.resourcemanager.connect.retry-interval.ms]=1000
  # For Java ApplicationMasters such as the distributed shell.
  yarn[yarn.application.classpath]="$dir/conf,$cache/hadoop/$version/jars/*"
}

capacity_settings() {
  local prefix=yarn.scheduler.capacity
  capacity[$prefix.root.queues]=default,other
  capacity[$prefix.root.default.capacity]=70
  capacity[$prefix.root.other.capacity]=30
  capacity[$prefix.root.default.maximum-capacity]=100
  capacity[$prefix.root.other.maximum-capacity]=100
  # Several small applications can run at once on a small cluster.
  capacity[$prefix.maximum-am-resource-percent]=1.0
  capacity[$prefix.resource-calculator]=org.apache.hadoop.yarn.util.resource.DominantResourceCalculator
  # Default 40 is meant for that many nodes: here as many missed chances as a small cluster gives.
  capacity[$prefix.node-locality-delay]=4
}

node_settings() {
  local host=$1 key
  hdfs[dfs.datanode.data.dir]=file://$dir/data/$host/blocks
  hdfs[dfs.datanode.hostname]=$host
  hdfs[dfs.datanode.address]=$host:9866
  hdfs[dfs.datanode.http.address]=$host:9864
  hdfs[dfs.datanode.ipc.address]=$host:9867
  yarn[yarn.nodemanager.hostname]=$host
  # A fixed port: containers of a restarted NodeManager are found again only under the same address.
  yarn[yarn.nodemanager.address]=$host:$NM_RPC_PORT
  yarn[yarn.nodemanager.recovery.enabled]=true
  yarn[yarn.nodemanager.recovery.dir]=$dir/data/$host/nm-state
  yarn[yarn.nodemanager.localizer.address]=$host:8040
  yarn[yarn.nodemanager.webapp.address]=$host:$NM_HTTP_PORT
  yarn[yarn.nodemanager.collector-service.address]=$host:8048
  yarn[yarn.nodemanager.local-dirs]=$dir/data/$host/local
  yarn[yarn.nodemanager.log-dirs]=$log_dir/containers-$host
}

# extra_settings HOST: the --set options for everybody, then those for HOST.
extra_settings() {
  local host=$1 setting target key
  for setting in "${settings[@]}"; do
    target=${setting%%:*} key=${setting#*:}
    [[ $target == *@* && ${target#*@} != "$host" ]] && continue
    case ${target%@*} in
      core-site) core[${key%%=*}]=${key#*=} ;;
      hdfs-site) hdfs[${key%%=*}]=${key#*=} ;;
      yarn-site) yarn[${key%%=*}]=${key#*=} ;;
      mapred-site) mapred[${key%%=*}]=${key#*=} ;;
      capacity-scheduler) capacity[${key%%=*}]=${key#*=} ;;
    esac
  done
}

check_setting() {
  [[ $1 =~ ^(core-site|hdfs-site|yarn-site|mapred-site|capacity-scheduler)(@[^:]+)?:[^=]+= ]] || die \
    "--set $1: expected FILE:KEY=VALUE or FILE@HOST:KEY=VALUE, FILE one of core-site hdfs-site yarn-site mapred-site capacity-scheduler"
}

write_xml() {
  local -n properties=$1
  local key
  echo '<?xml version="1.0"?>'
  echo '<configuration>'
  while read -r key; do
    [[ -n $key ]] || continue
    printf '  <property><name>%s</name><value>%s</value></property>\n' \
      "$(xml_text "$key")" "$(xml_text "${properties[$key]}")"
  done < <(printf '%s\n' "${!properties[@]}" | sort)
  echo '</configuration>'
}

xml_text() {
  local text=${1//&/'&amp;'}
  text=${text//</'&lt;'}
  printf '%s' "${text//>/'&gt;'}"
}
