# shellcheck shell=bash
# Starting, watching and killing the Hadoop daemons of a cluster.
#   $dir/run/HOST.DAEMON   PID STARTTIME of a daemon's JVM
#   $log_dir/HOST.DAEMON.log

readonly START_LIMIT_S=180 # a loaded machine of two cores needed 82 s at worst

# daemon_hosts: "HOST DAEMON" lines.
daemon_hosts() {
  local host
  echo "$master namenode"
  for host in "${nodes[@]}"; do echo "$host datanode"; done
  echo "$master resourcemanager"
  for host in "${nodes[@]}"; do echo "$host nodemanager"; done
}

# start_daemons: the slow ResourceManager first; the NameNode waits for its formatting, nobody else does.
start_daemons() {
  local host
  start_daemon "$master" resourcemanager
  for host in "${nodes[@]}"; do start_daemon "$host" nodemanager; done
  format_namenode
  start_daemon "$master" namenode
  for host in "${nodes[@]}"; do start_daemon "$host" datanode; done
}

daemon_class() {
  case $1 in
    namenode) echo org.apache.hadoop.hdfs.server.namenode.NameNode ;;
    datanode) echo org.apache.hadoop.hdfs.server.datanode.DataNode ;;
    resourcemanager) echo org.apache.hadoop.yarn.server.resourcemanager.ResourceManager ;;
    nodemanager) echo org.apache.hadoop.yarn.server.nodemanager.NodeManager ;;
    *) die "no daemon '$1'; there are: namenode resourcemanager datanode nodemanager" ;;
  esac
}

# java_command CONF LOGLEVEL: sets the array `java` to everything before the main class.
java_command() {
  local conf=$1 level=$2 home=$cache/hadoop/$version
  mapfile -t java < <(jvm_flags)
  # An archive that does not fit any more is ignored in silence; its warnings would go to stdout.
  [[ -f $home/classes.jsa ]] && java+=("-XX:SharedArchiveFile=$home/classes.jsa")
  java=("$java_home/bin/java" "${java[@]}" -Xlog:disable -Xlog:all=error:stderr
    "-Dringspin.log.level=$level" "-Dlog4j.configuration=file:$conf/log4j.properties"
    # Jars first: a class-data archive fits only when folders come last.
    -cp "$(<"$home/classpath"):$home/web:$conf")
}

# start_daemon HOST DAEMON: starts it, does not wait until it serves.
start_daemon() {
  local host=$1 daemon=$2 class entering java
  class=$(daemon_class "$daemon")
  [[ $'\n'$(daemon_hosts)$'\n' == *$'\n'"$host $daemon"$'\n'* ]] ||
    die "host '$host' has no $daemon; daemons are:"$'\n'"$(daemon_hosts)"
  is_running "$host" "$daemon" && die "$daemon on '$host' is running already"
  read_host "$host"
  # An empty working directory of its own: a NodeManager deletes relative paths there.
  mkdir -p "$dir/run" "$dir/work/$host.$daemon" "$dir/data/$host/java"
  enter "$host_pid" "$dir/work/$host.$daemon"
  java_command "$dir/conf-$host" INFO
  ((record_classes)) && java+=("-XX:DumpLoadedClassList=$dir/classes.$host.$daemon")
  # Default signals: what a background job of a shell ignores, containers would ignore too.
  setsid "${entering[@]}" --default-signal=INT,QUIT \
    HADOOP_CONF_DIR="$dir/conf" YARN_CONF_DIR="$dir/conf" JAVA_HOME="$java_home" \
    "${java[@]}" -Djava.io.tmpdir="$dir/data/$host/java" "$class" \
    </dev/null >>"$log_dir/$host.$daemon.log" 2>&1 &
  echo "$! $(start_time $!)" >"$dir/run/$host.$daemon"
}

is_running() {
  local pid started
  [[ -f $dir/run/$1.$2 ]] && read -r pid started <"$dir/run/$1.$2" && is_alive "$pid" "$started"
}

# kill_daemon HOST DAEMON SIGNAL
kill_daemon() {
  local host=$1 daemon=$2 signal=$3 pid started
  daemon_class "$daemon" >/dev/null
  is_running "$host" "$daemon" || die "$daemon on '$host' is not running"
  read -r pid started <"$dir/run/$host.$daemon"
  kill -"$signal" "$pid"
  # Only what ends a process is waited for: STOP and CONT leave it there.
  case ${signal#SIG} in
    KILL | 9 | TERM | 15) while is_alive "$pid" "$started"; do sleep 0.02; done ;;
  esac
}

# web METHOD HOST:PORT PATH: body of an HTTP answer; fails unless the status is 2xx. Inside the switch only.
web() { timeout 10 bash "$here/hadoop.d/http" "$1" "${2%:*}" "${2##*:}" "$3"; }

live_datanodes() {
  web GET "$master:$NAMENODE_HTTP_PORT" '/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState' 2>/dev/null |
    tr -d ' ' | awk -F'[:,]' '/"NumLiveDataNodes"/ {n = $2} /"FSState":"Operational"/ {ok = 1} END {print ok ? n + 0 : 0}'
}

active_nodemanagers() {
  web GET "$master:$RM_HTTP_PORT" /ws/v1/cluster/metrics 2>/dev/null |
    sed -n 's/.*"activeNodes":\([0-9]*\).*/\1/p'
}

format_namenode() {
  local entering java
  read_host "$master"
  enter "$host_pid"
  java_command "$dir/conf-$master" WARN
  "${entering[@]}" "${java[@]}" "$(daemon_class namenode)" -format -force -nonInteractive \
    </dev/null >"$log_dir/$master.format.log" 2>&1 ||
    die "formatting the NameNode failed:"$'\n'"$(tail -n 20 "$log_dir/$master.format.log")"
}

# wait_ready: until every node serves HDFS and YARN; fails at once when a daemon dies. For the keeper.
wait_ready() {
  local deadline=$((SECONDS + START_LIMIT_S)) host daemon dead
  until [[ $(live_datanodes) == "${#nodes[@]}" && $(active_nodemanagers) == "${#nodes[@]}" ]]; do
    dead=
    while read -r host daemon; do
      is_running "$host" "$daemon" || dead="$host.$daemon"
    done < <(daemon_hosts)
    [[ -z $dead ]] || die "$dead ended while starting; the end of its log:"$'\n'"$(tail -n 25 "$log_dir/$dead.log")"
    ((SECONDS < deadline)) || die "not ready after $START_LIMIT_S s; logs: $log_dir"
    check_wanted
    pause 0.2
  done
}

# Over WebHDFS: a Java client would need two seconds for each.
make_hdfs_folders() {
  local folder
  for folder in /tmp:1777 /tmp/logs:1777 /user:755 /user/root:755; do
    web PUT "$master:$NAMENODE_HTTP_PORT" \
      "/webhdfs/v1${folder%:*}?op=MKDIRS&permission=${folder#*:}&user.name=root" >/dev/null ||
      die "could not make ${folder%:*} in HDFS; see $log_dir/$master.namenode.log"
  done
}
