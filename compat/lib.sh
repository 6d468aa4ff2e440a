# shellcheck shell=bash
# What every suite's `run` needs: a cache folder, pinned installs, a server of its own.
#
# Source it first; it sets `errexit`, the cleaning trap and these variables:
#   HYDRANT_BIN    the binary under test
#   HYDRANT_STATE  a temporary folder: data, log, addresses and process id of the server
#   HYDRANT_HTTP, HYDRANT_KAFKA   HOST:PORT of the two doors, once `start_server` returned
#   cache          the folder for what is installed, outside the repository
# A test that must restart its server runs `bash lib.sh restart_server KILL|TERM`.
set -euo pipefail

compat=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export HYDRANT_COMPAT=$compat
export HYDRANT_BIN=${HYDRANT_BIN:-$(dirname "$compat")/target/release/hydrant}
suite=$(basename "$(cd "$(dirname "$0")" && pwd)")
cache=${HYDRANT_COMPAT_CACHE:-$HOME/.cache/hydrant-compat}/$suite

ready_seconds=30
stop_seconds=20

die() {
  echo "$suite: $*" >&2
  exit 1
}

# Starts the server and waits for its two lines. Restarts keep data and addresses.
start_server() {
  [ -x "$HYDRANT_BIN" ] || die "no binary at $HYDRANT_BIN (set HYDRANT_BIN)"
  local pipe=$HYDRANT_STATE/stdout http=127.0.0.1:0 kafka=127.0.0.1:0 line
  if [ -f "$HYDRANT_STATE/addresses" ]; then read -r http kafka < "$HYDRANT_STATE/addresses"; fi
  rm -f "$pipe"
  mkfifo "$pipe"
  exec 8<> "$pipe" # lets both ends open without waiting for each other
  # Read and write, so that the server outlives the reader; RUST_LOG is the caller's.
  "$HYDRANT_BIN" serve --data-dir "$HYDRANT_STATE/data" --http-addr "$http" --kafka-addr "$kafka" \
    --auto-create-topics "${HYDRANT_AUTO_CREATE:-false}" 1<> "$pipe" 2>> "$HYDRANT_STATE/log" 8>&- &
  echo $! > "$HYDRANT_STATE/pid"
  disown # the shell need not tell that a test killed it
  exec 7< "$pipe" 8>&- # from here on the end of the server is the end of the pipe
  for _ in 1 2; do
    IFS= read -r -t "$ready_seconds" -u 7 line || die "server is not ready: $(tail -n 20 "$HYDRANT_STATE/log")"
    case $line in
      "listening http://"*) http=${line#listening http://} ;;
      "listening kafka://"*) kafka=${line#listening kafka://} ;;
      *) die "unexpected line on stdout: $line" ;;
    esac
  done
  exec 7<&-
  echo "$http $kafka" > "$HYDRANT_STATE/addresses"
  export HYDRANT_HTTP=$http HYDRANT_KAFKA=$kafka
}

# Ends the server with a signal (TERM) and waits until it is gone.
stop_server() {
  local pid
  pid=$(cat "$HYDRANT_STATE/pid")
  kill "-${1:-TERM}" "$pid"
  timeout "$stop_seconds" tail -s 0.05 --pid="$pid" -f /dev/null || die "server still runs $stop_seconds s after ${1:-TERM}"
}

restart_server() {
  stop_server "$1"
  start_server
}

# Ends the suite: the server goes, and a failure shows what it had to say.
clean_up() {
  local status=$? pid
  trap - EXIT
  if [ -f "$HYDRANT_STATE/pid" ]; then
    pid=$(cat "$HYDRANT_STATE/pid")
    if kill -TERM "$pid" 2> /dev/null; then
      timeout "$stop_seconds" tail -s 0.05 --pid="$pid" -f /dev/null || kill -KILL "$pid" || true
    fi
  fi
  if [ "$status" -ne 0 ] && [ -s "$HYDRANT_STATE/log" ]; then
    { echo "--- log of the server, last lines ---"; tail -n "${HYDRANT_LOG_LINES:-60}" "$HYDRANT_STATE/log"; } >&2
  fi
  rm -rf "$HYDRANT_STATE"
  exit "$status"
}

need() {
  command -v "$1" > /dev/null || die "needs $1${2:+: $2}"
}

# A command of the system; installs the package of that name where that is possible.
need_package() {
  if command -v "$1" > /dev/null; then return; fi
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
    die "needs $1 on the PATH: install the package, or run as root where apt-get is"
  fi
  mkdir -p "$cache"
  { apt-get update && apt-get install -y --no-install-recommends "$1"; } > "$cache/apt.log" 2>&1 \
    || die "installation failed: $(tail -n 5 "$cache/apt.log")"
  need "$1"
}

# A Chromium under one of its names, else the package; sets `chromium`.
find_chromium() {
  local name
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if chromium=$(command -v "$name"); then return; fi
  done
  need_package chromium
  chromium=$(command -v chromium)
}

# Prepares an installation once: `once STAMP COMMAND…` runs the command unless the stamp, a text
# that names the versions, is already there.
once() {
  local stamp=$1
  shift
  mkdir -p "$cache"
  if [ "$(cat "$cache/.installed" 2> /dev/null)" != "$stamp" ]; then
    rm -rf "${cache:?}"/* "$cache/.installed"
    "$@" > "$cache/install.log" 2>&1 || die "installation failed: $(tail -n 5 "$cache/install.log")"
    echo "$stamp" > "$cache/.installed"
  fi
}

make_venv() {
  python3 -m venv "$cache/venv" && "$cache/venv/bin/pip" install --disable-pip-version-check "$@"
}

# A virtual environment with pinned packages; sets `python`.
use_venv() {
  need python3
  once "$*" make_venv "$@"
  python=$cache/venv/bin/python
}

# Adds up the counts of several parts, read from files or standard input; fails if any failed.
add_counts() {
  awk '/^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }
    END { print passed + 0 " passed, " failed + 0 " failed"; exit failed > 0 }' "$@"
}

export PYTHONPATH=$compat/pylib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  "$@"
else
  HYDRANT_STATE=$(mktemp -d "${TMPDIR:-/tmp}/hydrant-compat.XXXXXX")
  export HYDRANT_STATE
  trap clean_up EXIT
  trap 'exit 130' INT TERM
fi
