# Runs in an outer guest: puts the work tree and the store where this host has them, and runs xtask there.
# $1: the work tree, $2: the store, the rest: xtask's words.
set -eu
workspace=$1 store=$2
shift 2
disk=
for name in /sys/block/*; do
    if [ "$(cat "$name/serial" 2>/dev/null)" = mdr-outer ]; then disk=/dev/${name##*/}; fi
done
mkdir -p /outer /room
mount -t squashfs -o ro "$disk" /outer
mount -t tmpfs -o size=80% room /room
lay() {
    mkdir -p "$2" "/room/$1" "/room/$1.work"
    mount -t overlay -o "lowerdir=/outer/$1,upperdir=/room/$1,workdir=/room/$1.work" "$1" "$2"
}
# In this order: a store may lie in the work tree.
lay workspace "$workspace"
lay store "$store"
# The host's source list and keys, where any Debian host has them.
mkdir -p /etc/apt /usr/share/keyrings
cp /outer/sources.list /etc/apt/sources.list
cp /outer/keys.gpg /usr/share/keyrings/debian-archive-keyring.gpg
chmod 644 /etc/apt/sources.list /usr/share/keyrings/debian-archive-keyring.gpg
modprobe kvm-amd
export HOME=/root MD_REGRESS_AGENT=/outer/agent
cd "$workspace"
code=0
/outer/xtask --store "$store" "$@" || code=$?
# The runs of checks that failed.
for runs in reports/out/selftest-*; do
    if [ -d "$runs" ]; then cp -r "$runs" "$MD_REGRESS_FILES" || echo "$runs could not be kept"; fi
done
exit $code
