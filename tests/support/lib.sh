# Shell functions shared by the test scripts; read with `.`, after `set -eu` and once $here names
# this folder.
# They write to standard error only: standard output belongs to the caller.

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# provide WHAT PACKAGE...: installs Debian packages if the user may, else explains what to install.
provide() {
    what=$1; shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "$what is missing: installing $* with apt-get"
        # Concurrent tests may need the same package.
        exec 7<"$here/lib.sh"
        flock 7
        { apt-get update -qq &&
          DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
              install -y -qq --no-install-recommends "$@"; } </dev/null >&2 ||
            die "apt-get could not install $*"
        exec 7<&-
    else
        die "$what is missing; install it (Debian and Ubuntu: apt-get install $*) and run this again"
    fi
}

# need COMMAND PACKAGE...: makes sure that a command is installed.
need() {
    command -v "$1" >/dev/null && return
    provide "$@"
    command -v "$1" >/dev/null || die "$1 is still missing after the installation of its package"
}

# Prints the folder of PostgreSQL's programs, or nothing.
find_postgres() {
    for dir in \
        "$(dirname -- "$(readlink -f -- "$(command -v initdb || true)" || true)")" \
        "$(pg_config --bindir 2>/dev/null || true)" \
        $(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin 2>/dev/null | sort -rV)
    do
        if [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && [ -x "$dir/postgres" ]; then
            printf '%s\n' "$dir"
            return
        fi
    done
}

# Sets bindir to the folder of PostgreSQL's programs; installs them when they are missing.
need_postgres() {
    bindir=$(find_postgres)
    [ -n "$bindir" ] && return
    provide "PostgreSQL (13 or later, the server)" postgresql
    bindir=$(find_postgres)
    [ -n "$bindir" ] || die "initdb, pg_ctl and postgres are still missing after the installation"
}

# Sets account to the user that servers run as: initdb and pgbouncer refuse root.
choose_account() {
    account=$(id -un 2>/dev/null || id -u)
    [ "$(id -u)" = 0 ] || return 0
    for account in postgres nobody; do
        id "$account" >/dev/null 2>&1 && return
    done
    die "no unprivileged account to run servers as (postgres, nobody)"
}

# as_account COMMAND...: runs a command as that user.
as_account() {
    if [ "$(id -u)" != 0 ]; then
        "$@"
    elif command -v setpriv >/dev/null; then
        setpriv --reuid="$(id -u "$account")" --regid="$(id -g "$account")" --clear-groups -- "$@"
    elif command -v runuser >/dev/null; then
        runuser -u "$account" -- "$@"
    else
        su -s /bin/sh "$account" -c 'exec "$0" "$@"' -- "$@"
    fi
}

# Sets dir to a new folder that the account owns, with a path short enough for Unix sockets. It is
# below /tmp when the account has no access to TMPDIR.
make_dir() {
    dir=
    for parent in "${TMPDIR:-/tmp}" /tmp; do
        [ ${#parent} -lt 60 ] && as_account test -x "$parent" || continue
        dir=$(mktemp -d "$parent/datapass-pull-$1.XXXXXX") || continue
        break
    done
    [ -n "$dir" ] || die "cannot make a temporary folder in /tmp"
    [ "$(id -u)" != 0 ] || chown "$account" "$dir"
}

# Prints a random port below the kernel's range of ephemeral ports.
random_port() {
    echo $((10240 + $(od -An -N2 -tu2 /dev/urandom) % 22000))
}

# need_cargo_tool NAME VERSION [ARGUMENT...]: makes sure that one of cargo's tools is in the PATH;
# builds it on first use.
need_cargo_tool() {
    tool=$1 version=$2; shift 2
    tools=${TOOLS:-$root/target/tools}
    need_rust
    PATH=$tools/bin:$PATH; export PATH
    [ -e "$tools/$tool-$version" ] && return
    cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" --force \
        --version "$version" "$@" "$tool" >&2 || die "cargo could not install $tool $version"
    touch "$tools/$tool-$version"
}

# Makes sure that Rust and a linker are installed.
need_rust() {
    command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    export PATH
    command -v cargo >/dev/null ||
        die "cargo is missing; install Rust 1.89 or later, for instance from https://rustup.rs"
    need cc gcc libc6-dev
}
