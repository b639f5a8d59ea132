# Runs in an outer guest: puts the work tree and the store where this host has them, and runs xtask there.
# $1: the work tree, $2: the store, $3: xtask, $4: the guest agent, the rest: xtask's words.
set -eu
workspace=$1 store=$2 xtask=$3 agent=$4
shift 4
disk=
for name in /sys/block/*; do
    if [ "$(cat "$name/serial" 2>/dev/null)" = mdr-outer ]; then disk=/dev/${name##*/}; fi
done
mkdir -p /outer /room
mount -t squashfs -o ro "$disk" /outer
mount -t tmpfs -o size=80% room /room
for place in "store=$store" "workspace=$workspace"; do
    name=${place%%=*} path=${place#*=}
    mkdir -p "$path" "/room/$name" "/room/$name.work"
    mount -t overlay -o "lowerdir=/outer/$name,upperdir=/room/$name,workdir=/room/$name.work" "$name" "$path"
done
# The host's source list and keys, so that they are found as on any Debian host.
cp -a /outer/host/. /
modprobe kvm-amd
export HOME=/root MD_REGRESS_AGENT="$agent"
cd "$workspace"
code=0
"$xtask" --store "$store" "$@" || code=$?
# The runs of checks that failed.
cp -r reports/out/selftest-* "$MD_REGRESS_FILES" 2>/dev/null || true
exit $code
