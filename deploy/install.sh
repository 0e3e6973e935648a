#!/usr/bin/env bash
# Installs Vltava on a machine with systemd: binary, user, directories, config, unit. See --help.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

binary=
config=
node_id=
host=
voters=
rack=
data_dir=/var/lib/vltava
user=vltava
start=no
dry_run=no

usage() {
    cat <<'HELP'
Installs Vltava on this machine: the binary in /usr/local/bin, a user, /etc/vltava/node.toml, the data directory and
the systemd unit vltava.service. Run it as root; run it again to upgrade the binary and the unit.

Usage: deploy/install.sh [OPTIONS]

What to install:
  --binary FILE       the vltava binary (default: target/release/vltava beside this script, else ./vltava)

The config, one of:
  --config FILE       install this config file
  --node-id N --host HOST --voters ID@HOST:PORT,...
                      write one: a controller and broker that listens on ports 7092 (clients and brokers),
                      7093 (controllers) and 8092 (health, metrics), and is reached by others as HOST
  An existing /etc/vltava/node.toml is kept when neither is given, and never overwritten.

Options:
  --rack NAME         where the node stands, for the config that is written
  --data-dir DIR      where data is kept (default: /var/lib/vltava)
  --user NAME         the user that runs it (default: vltava)
  --start             enable and start the service (after an upgrade: restart it)
  --dry-run           say what would be done, do nothing
  -h, --help          this text

Examples:
  sudo deploy/install.sh --node-id 1 --host 10.0.0.1 \
      --voters 1@10.0.0.1:7093,2@10.0.0.2:7093,3@10.0.0.3:7093 --rack a --start
  sudo deploy/install.sh --config my-node.toml
  sudo deploy/install.sh --binary ./vltava --start      upgrade this node

Nothing is encrypted or authenticated yet: let only trusted machines reach these ports.
HELP
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

wrong_usage() {
    echo "install.sh: $* (--help shows all options)" >&2
    exit 2
}

# Runs a command, or says what it would be.
run() {
    if [ "$dry_run" = yes ]; then
        echo "would run: $*"
    else
        "$@"
    fi
}

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help)
                usage
                exit 0
                ;;
            --start) start=yes ;;
            --dry-run) dry_run=yes ;;
            --binary | --config | --node-id | --host | --voters | --rack | --data-dir | --user)
                [ $# -ge 2 ] || wrong_usage "$1 needs a value"
                case $1 in
                    --binary) binary=$2 ;;
                    --config) config=$2 ;;
                    --node-id) node_id=$2 ;;
                    --host) host=$2 ;;
                    --voters) voters=$2 ;;
                    --rack) rack=$2 ;;
                    --data-dir) data_dir=$2 ;;
                    --user) user=$2 ;;
                esac
                shift
                ;;
            *) wrong_usage "unknown option $1" ;;
        esac
        shift
    done
}

check_flags() {
    if [ -n "$config" ] && [ -n "$node_id$host$voters$rack" ]; then
        wrong_usage "--config excludes --node-id, --host, --voters and --rack"
    fi
    if [ -n "$node_id$host$voters" ]; then
        [ -n "$node_id" ] && [ -n "$host" ] && [ -n "$voters" ] || wrong_usage "--node-id, --host and --voters go together"
        [[ $node_id =~ ^[0-9]+$ ]] || wrong_usage "--node-id $node_id is not a number"
        [[ $host =~ ^[A-Za-z0-9._-]+$ ]] || wrong_usage "--host $host is not a host name or IPv4 address"
        [[ $voters =~ ^[0-9]+@[^,@[:space:]\"]+:[0-9]+(,[0-9]+@[^,@[:space:]\"]+:[0-9]+)*$ ]] \
            || wrong_usage "--voters $voters is not of the form ID@HOST:PORT,ID@HOST:PORT"
    fi
    [[ $rack =~ ^[A-Za-z0-9._-]*$ ]] || wrong_usage "--rack $rack may have letters, digits, '.', '_' and '-'"
    [[ $data_dir =~ ^/[A-Za-z0-9._/-]*$ ]] || wrong_usage "--data-dir $data_dir is not an absolute path without blanks"
    [[ $user =~ ^[a-z_][a-z0-9_-]*$ ]] || wrong_usage "--user $user is not a user name"
    [ -z "$config" ] || [ -f "$config" ] || wrong_usage "--config $config does not exist"
}

find_binary() {
    if [ -z "$binary" ]; then
        for candidate in "$here/../target/release/vltava" ./vltava; do
            if [ -x "$candidate" ]; then
                binary=$candidate
                break
            fi
        done
    fi
    [ -n "$binary" ] || fail "no vltava binary found: run 'cargo build --release', or name one with --binary"
    [ -x "$binary" ] || fail "$binary is not an executable file"
    "$binary" --version > /dev/null 2>&1 || fail "$binary does not run on this machine ('$binary --version' failed)"
}

check_machine() {
    [ "$(uname -s)" = Linux ] || fail "this script is for Linux"
    for tool in install useradd getent runuser systemctl; do
        command -v "$tool" > /dev/null || [ "$dry_run" = yes ] || fail "'$tool' is missing on this machine"
    done
    if [ "$dry_run" = no ]; then
        [ "$(id -u)" -eq 0 ] || fail "run it as root (sudo), or with --dry-run"
        [ -d /run/systemd/system ] || fail "this machine is not run by systemd"
    fi
    if [ ! -e /etc/vltava/node.toml ] && [ -z "$config$node_id" ]; then
        wrong_usage "there is no /etc/vltava/node.toml yet: give --config, or --node-id, --host and --voters"
    fi
    if [ -e /etc/vltava/node.toml ] && [ -n "$config$node_id" ]; then
        fail "/etc/vltava/node.toml exists and is not overwritten: edit it, or move it away"
    fi
}

written_config() {
    local list=
    local voter
    local voter_list
    IFS=, read -r -a voter_list <<< "$voters"
    for voter in "${voter_list[@]}"; do
        list+=${list:+, }"\"$voter\""
    done
    cat <<CONFIG
# Written by install.sh. docs/configuration.md explains every property.
node.id = $node_id
process.roles = ["controller", "broker"]
log.dirs = ["$data_dir/data"]
controller.quorum.voters = [$list]
listeners = ["GRPC://0.0.0.0:7092", "CONTROLLER://0.0.0.0:7093", "HTTP://0.0.0.0:8092"]
advertised.listeners = ["GRPC://$host:7092", "CONTROLLER://$host:7093"]
default.replication.factor = $((${#voter_list[@]} < 3 ? ${#voter_list[@]} : 3))
min.insync.replicas = $((${#voter_list[@]} < 2 ? 1 : 2))
CONFIG
    if [ -n "$rack" ]; then
        echo "broker.rack = \"$rack\""
    fi
}

install_config() {
    local source=$config
    if [ -n "$node_id" ]; then
        source=$(mktemp)
        written_config > "$source"
    fi
    if [ -n "$source" ]; then
        # Relative directories would be relative to the temporary file here: only the syntax and the values count.
        "$binary" server --config "$source" --check > /dev/null || fail "the config is not in order; nothing was installed"
        if [ "$dry_run" = yes ]; then
            echo "would write /etc/vltava/node.toml:"
            sed 's/^/    /' "$source"
        fi
        run install -D -m 0640 -o root -g "$user" "$source" /etc/vltava/node.toml
    fi
    if [ -n "$node_id" ]; then
        rm -f "$source"
    fi
}

install_unit() {
    local unit
    unit=$(mktemp)
    sed -e "s|^User=.*|User=$user|" -e "s|^Group=.*|Group=$user|" -e "s|/var/lib/vltava|$data_dir|g" \
        "$here/systemd/vltava.service" > "$unit"
    if [ "$data_dir" != /var/lib/vltava ]; then
        # systemd makes and owns directories under /var/lib only.
        sed -i -e '/^StateDirectory/d' "$unit"
    fi
    run install -D -m 0644 "$unit" /etc/systemd/system/vltava.service
    rm -f "$unit"
    if [ -f "$here/../docs/configuration.md" ]; then
        run install -D -m 0644 "$here/../docs/configuration.md" /usr/local/share/doc/vltava/configuration.md
    fi
    run systemctl daemon-reload
}

main() {
    parse "$@"
    check_flags
    check_machine
    find_binary
    if ! getent passwd "$user" > /dev/null; then
        run useradd --system --user-group --home-dir "$data_dir" --no-create-home --shell /usr/sbin/nologin "$user"
    fi
    run install -d -m 0750 -o "$user" -g "$user" "$data_dir"
    run install -d -m 0755 /etc/vltava
    install_config
    # A new file in the place of the old one: a running node keeps the one that it was started with.
    run install -D -m 0755 "$binary" /usr/local/bin/vltava
    install_unit
    if [ "$dry_run" = no ]; then
        runuser -u "$user" -- /usr/local/bin/vltava server --config /etc/vltava/node.toml --check
    fi
    if [ "$start" = yes ]; then
        run systemctl enable vltava.service
        run systemctl restart vltava.service
    fi
    if [ "$dry_run" = yes ]; then
        echo "Nothing was changed."
        return
    fi
    echo "Installed $(/usr/local/bin/vltava --version). Next:"
    if [ "$start" = no ]; then
        echo "  systemctl enable --now vltava"
    fi
    echo "  systemctl status vltava"
    echo "  journalctl -u vltava -f"
    echo "  vltava quorum describe"
}

main "$@"
