# shellcheck shell=bash
# What a machine needs to build, run and test Ringspin, for the scripts that begin on a bare Debian. Sourced.
#
# Things are looked for by what is needed (a command, a file), not by package: who has installed them otherwise
# is not bothered. Only what is missing comes from Debian, and only root can fetch it.

missing_packages=()
problems=() # what is missing and can not be installed from here

say() { echo "$*" >&2; }
die() {
  say "${0##*/}: $*"
  exit 1
}

# want_command COMMAND PACKAGE, want_file FILE PACKAGE: note PACKAGE as missing when it is not there.
want_command() { command -v "$1" >/dev/null || missing_packages+=("$2"); }
want_file() { [[ -e $1 ]] || missing_packages+=("$2"); }

# For every build: a linker and what it links.
want_build_tools() {
  want_command cc gcc
  want_file /usr/include/stdlib.h libc6-dev
}

# For builds with the feature `openblas`: OpenBLAS as a static archive (build/openblas links to Debian's).
want_openblas() {
  want_command pkg-config pkg-config
  want_file build/openblas/libopenblas.a libopenblas-pthread-dev
}

# pip, which fetches MKL and the peers of benchmarks.
want_pip() { python3 -m pip --version >/dev/null 2>&1 || missing_packages+=(python3-pip); }

# For a real Hadoop on this machine (scripts/hadoop).
want_hadoop_tools() {
  want_java
  want_command mvn maven
  want_command ip iproute2
  want_command nsenter util-linux
  want_command ps procps
}

want_java() {
  local major
  # As in: openjdk version "17.0.15" 2025-04-15
  major=$(java -version 2>&1 | sed -n 's/^[a-z]* version "\([0-9]*\).*/\1/p') || true
  ((${major:-0} >= 17)) || missing_packages+=(openjdk-17-jdk-headless)
}

# install_missing: dies, naming everything that is missing, when that can not be mended here.
install_missing() {
  local packages="${missing_packages[*]}"
  if [[ -n $packages ]] && ! command -v apt-get >/dev/null; then
    problems+=("this is no Debian: please install what these packages of Debian hold: $packages")
  elif [[ -n $packages ]] && ((EUID != 0)); then
    problems+=("missing, and only root can install it: apt-get install $packages")
  fi
  ((${#problems[@]} == 0)) || die "$(printf '%s\n' "${problems[@]}")"
  [[ -n $packages ]] || return 0
  say "installing ${missing_packages[*]}"
  local log
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get update && apt-get install -y --no-install-recommends "${missing_packages[@]}"; } >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    die "could not install ${missing_packages[*]} (log: $log)"
  fi
  rm -f "$log"
  missing_packages=()
}

# want_rust [COMPONENT...]: Rust is not installed by us: Debian's is too old, and how to have it is the user's choice.
want_rust() {
  local wanted version component
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]] && PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  version=$(cargo --version 2>/dev/null | sed 's/^cargo \([0-9.]*\).*/\1/') || true
  if [[ -z $version ]]; then
    problems+=("Rust is missing: version $wanted or newer, from https://rustup.rs or your distribution")
  elif [[ $(printf '%s\n' "$wanted" "$version" | sort -V | head -n 1) != "$wanted" ]]; then
    problems+=("Rust $version is too old: $wanted or newer is needed (rustup update stable)")
  else
    for component in "$@"; do
      cargo "$component" --version >/dev/null 2>&1 ||
        problems+=("'cargo $component' is missing: rustup component add rustfmt clippy")
    done
  fi
}

# minutes_since TIME: as minutes:seconds; TIME is an earlier $SECONDS.
minutes_since() { printf '%d:%02d' $(((SECONDS - $1) / 60)) $(((SECONDS - $1) % 60)); }
