# What .ci/run promises the tests beyond the pinned set, and how it is brought. Sourced by it, and by its tests.
#
# Whatever cannot be brought, in two tries where a network is asked, is kept as a reason; `settle` waits for what is under
# way, says every reason, and fails if there is one.

BIN="${BIN:-$PWD/.venv/bin}"
MISSED=$(mktemp -d)

# miss NAME REASON: the first reason is the one that counts.
miss() {
    [[ -e "$MISSED/$1" ]] || printf '%s\n' "$2" >"$MISSED/$1"
}

twice() {
    "$@" || "$@"
}

# bring NAME COMMAND...: what a command says is shown only where it failed twice, and then its last line.
bring() {
    local name=$1 log
    shift
    log=$(mktemp)
    if twice "$@" >"$log" 2>&1; then
        echo "$name: here after $SECONDS s"
    else
        miss "$name" "$(grep -v '^[[:space:]]*$' "$log" | tail -n 1)"
    fi
    rm -f "$log"
}

settle() {
    local reason failed=0
    wait
    for reason in "$MISSED"/*; do
        [[ -e "$reason" ]] || continue
        echo "${reason##*/}: promised to the tests and not here: $(cat "$reason")" >&2
        failed=1
    done
    return $failed
}

may_install() {
    [[ -n "${CI:-}" && $EUID -eq 0 ]] && command -v apt-get >/dev/null
}

apt_install() {
    apt-get install -y -qq "$1" || { apt-get update -qq && apt-get install -y -qq "$1"; }
}

have_go() {
    command -v go >/dev/null || { may_install && twice apt_install golang-go >/dev/null 2>&1 && command -v go >/dev/null; }
}

# build NAME MODULE@VERSION
build() {
    GOBIN="$BIN" go install "$2" || build_as_dependency "$1" "$2"
}

# For modules that `go install` will not take because of what their go.mod replaces or excludes.
build_as_dependency() (
    cd "$(mktemp -d)" && go mod init build && go get "$2" && go build -mod=mod -o "$BIN/$1" "${2%@*}"
)

# provide VARIABLE NAME MODULE@VERSION: builds NAME in the background unless VARIABLE names one or it is there already.
provide() {
    if [[ -n "${!1:-}" ]]; then
        command -v "${!1}" >/dev/null || miss "$2" "$1 names ${!1}, which cannot be run"
    elif [[ -x "$BIN/$2" ]]; then
        return
    elif have_go; then
        bring "$2" build "$2" "$3" &
    else
        miss "$2" "no Go on PATH to build it with, and none to be had from apt-get; install Go, or name a $2 in $1"
    fi
}

# Beside the tests' own environment: Airflow's pins are not TensorFlow's, and want Python 3.11.
provide_airflow() {
    local python="$PWD/.venv/airflow/bin/python"
    if [[ -n "${SHELFMARK_AIRFLOW_PYTHON:-}" ]]; then
        command -v "$SHELFMARK_AIRFLOW_PYTHON" >/dev/null \
            || miss Airflow "SHELFMARK_AIRFLOW_PYTHON names $SHELFMARK_AIRFLOW_PYTHON, which cannot be run"
    elif "$BIN/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        bring Airflow install_airflow "$python"
        export SHELFMARK_AIRFLOW_PYTHON="$python"
    else
        echo "Airflow: not promised on a Python before 3.11"
    fi
}

install_airflow() {
    { [[ -x "$1" ]] || "$BIN/python" -m venv .venv/airflow; } \
        && "$1" -m pip install -q --no-deps --require-hashes --only-binary :all: -r constraints/airflow.txt
}

# Debian's Chromium, driven by the extra [browser]; a browser of one's own is named by SHELFMARK_CHROMIUM.
provide_browser() {
    local browser=${SHELFMARK_CHROMIUM:-chromium}
    if [[ "$browser" == chromium ]] && ! command -v chromium >/dev/null && may_install; then
        bring Chromium apt_install chromium
    fi
    command -v "$browser" >/dev/null \
        || miss Chromium "$browser is not on PATH; install it, or name a browser in SHELFMARK_CHROMIUM"
}
