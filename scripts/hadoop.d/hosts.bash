# shellcheck shell=bash
# Hosts are Linux namespaces (network, host name, mounts), each held by one sleeping process; the keeper's
# own network namespace is the switch between them. Nothing of it has a name outside: when the processes
# are gone, namespaces, links and mounts are gone, whatever happened. So the only state is process ids:
#   $dir/keeper      PID STARTTIME of the keeper
#   $dir/hosts/HOST  PID STARTTIME PORT of the host's holder; PORT is the switch's end of its cable

readonly SUBNET=10.77.0 # the same in every cluster: their switches are not connected

# The kernel's start time of a process tells it from a later one with the same id. Empty when it is gone.
start_time() {
  local stat fields
  read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
  read -ra fields <<<"${stat##*) }"
  # A zombie has ended; only its parent does not know yet.
  [[ ${fields[0]} == Z ]] || echo "${fields[19]}"
}

is_alive() { [[ -n $1 && -n $2 && $(start_time "$1") == "$2" ]]; }

# read_host HOST: sets host_pid, host_port; fails when the host does not exist or is gone.
read_host() {
  local started
  [[ -f $dir/hosts/$1 ]] || die "no host '$1' in cluster '$name'; it has: $(cd "$dir/hosts" && echo *)"
  read -r host_pid started host_port <"$dir/hosts/$1"
  is_alive "$host_pid" "$started" || die "host '$1' of cluster '$name' is gone: scripts/hadoop --name $name down"
}

# enter PID [FOLDER]: sets the array `entering`, a command prefix that goes into the namespaces of PID, and to FOLDER.
enter() {
  # --root: inside a chroot, entering mounts alone would lead out of it.
  entering=(nsenter --target "$1" --net --uts --mount --root)
  # The keeper is inside its user namespace already, and the kernel refuses to enter that again.
  ((rootless && !inside)) && entering+=(--user --preserve-credentials)
  entering+=(-- env --chdir="${2:-/}")
}

# ---- by the keeper, inside the switch's namespace ----

plug_hosts() {
  mkdir -p "$dir/hosts"
  write_names >"$dir/etc-hosts"
  : >"$dir/etc-resolv.conf" # no name server: unknown names fail at once
  mount --bind "$dir/etc-hosts" /etc/hosts
  ip link set lo up
  ip link add switch type bridge
  ip addr add "$SUBNET.1/24" dev switch
  ip link set switch up
  local number=10 host
  plug_host edge 9
  for host in "$master" "${nodes[@]}"; do
    plug_host "$host" "$number"
    number=$((number + 1))
  done
}

write_names() {
  local number=10 host
  echo "127.0.0.1 localhost"
  echo "$SUBNET.9 edge"
  for host in "$master" "${nodes[@]}"; do
    echo "$SUBNET.$number $host"
    number=$((number + 1))
  done
}

plug_host() {
  local host=$1 number=$2 pid entering
  # Exec: the id of the background job is the id of the holder.
  setsid unshare --net --uts --mount -- sleep infinity </dev/null &
  pid=$!
  until [[ -e /proc/$pid/ns/net && ! /proc/$pid/ns/mnt -ef /proc/self/ns/mnt && $(</proc/$pid/comm) == sleep ]]; do
    [[ -e /proc/$pid ]] || die "could not make namespaces for host '$host'"
    sleep 0.01
  done
  echo "$pid $(start_time "$pid") port$number" >"$dir/hosts/$host"
  # Held open, so that the namespace's number can not come to mean another one while the keeper lives.
  local pinned
  exec {pinned}<"/proc/$pid/ns/net"
  ip link add "port$number" type veth peer name eth0 netns "$pid"
  ip link set "port$number" master switch up
  enter "$pid"
  "${entering[@]}" sh -e -c '
    hostname "$1"
    mount --bind "$2/etc-hosts" /etc/hosts
    if [ -e /etc/resolv.conf ]; then mount --bind "$2/etc-resolv.conf" /etc/resolv.conf; fi
    ip link set lo up
    ip addr add "$3/24" dev eth0
    ip link set eth0 up' sh "$host" "$dir" "$SUBNET.$number"
}

# ---- by anybody ----

# in_switch CMD...: runs it where the switch is.
in_switch() {
  local keeper_pid entering
  is_kept || die "cluster '$name' lost its keeper: scripts/hadoop --name $name down"
  read -r keeper_pid _ <"$dir/keeper"
  enter "$keeper_pid"
  "${entering[@]}" "$@"
}

cut_host() {
  read_host "$1"
  in_switch ip link set "$host_port" down
}

heal_host() {
  read_host "$1"
  in_switch ip link set "$host_port" up
}

# limit_host HOST RATE: both directions; RATE as tc takes it (10mbit), or `off`.
limit_host() {
  local host=$1 rate=$2 entering
  read_host "$host"
  enter "$host_pid"
  if [[ $rate == off ]]; then
    in_switch tc qdisc del dev "$host_port" root
    "${entering[@]}" tc qdisc del dev eth0 root
  else
    # The bucket holds what one timer tick lets through at up to 2 Gbit/s.
    in_switch tc qdisc replace dev "$host_port" root tbf rate "$rate" burst 1mb latency 100ms
    "${entering[@]}" tc qdisc replace dev eth0 root tbf rate "$rate" burst 1mb latency 100ms
  fi
}

# processes_of HOLDER...: ids of all processes in the network namespaces of these processes.
processes_of() {
  local pid match=()
  for pid in "$@"; do
    pid=$(readlink "/proc/$pid/ns/net") || continue
    match+=(-o -lname "${pid//[\[\]]/?}")
  done
  ((${#match[@]})) || return 0
  # Processes come and go meanwhile, and those of others can not be read.
  { find /proc/[0-9]*/ns/net -maxdepth 0 \( "${match[@]:1}" \) -printf '%h\n' 2>/dev/null || true; } |
    sed 's|^/proc/\([0-9]*\)/ns$|\1|'
}

# kill_hosts EXCEPT: ends every process in the cluster but EXCEPT, holders last, whatever they start meanwhile.
kill_hosts() {
  local except=$1 file pid started _ holders=() found victims round
  for file in "$dir"/hosts/* "$dir/keeper"; do
    [[ -f $file ]] || continue
    read -r pid started _ <"$file"
    if is_alive "$pid" "$started"; then holders+=("$pid"); fi
  done
  ((${#holders[@]})) || return 0
  for ((round = 0; round < 100; round++)); do
    # Collected first: by then the processes that did the looking are gone themselves.
    found=$(processes_of "${holders[@]}")
    victims=()
    for pid in $found; do
      [[ " ${holders[*]} $except " == *" $pid "* || -z $(start_time "$pid") ]] || victims+=("$pid")
    done
    ((${#victims[@]})) || break
    kill -KILL "${victims[@]}" 2>/dev/null || true
    # A killed process leaves its namespaces before it is gone altogether: wait for the end.
    for pid in "${victims[@]}"; do
      while [[ -n $(start_time "$pid") ]]; do sleep 0.02; done
    done
  done
  for pid in "${holders[@]}"; do
    [[ $pid == "$except" ]] || kill -KILL "$pid" 2>/dev/null || true
  done
}
