# Moves for some seconds, says when it stops, and never moves again. `how` is set in front of this.
# md-regress: modules=raid1+raid456+dm-raid,timeout=10m,silence=5m
set -eu
read -r began _ </proc/uptime
stops() { read -r now _ </proc/uptime; awk "BEGIN { printf \"stops after %.2f s\\n\", $now - $began }"; }
dm() { dmsetup --noudevsync "$@"; }

legs=
for leg in a b c; do
    truncate -s 300M /tmp/$leg
    loop=$(losetup -f --show /tmp/$leg)
    dm create $leg --table "0 614400 linear $loop 0"
    dmsetup mknodes $leg
    legs="$legs - /dev/mapper/$leg"
done
# Slow enough to go on until it is stopped.
echo 2000 >/proc/sys/dev/raid/speed_limit_max
raid1() { mdadm --create /dev/md0 --run --level=1 --raid-devices=2 /dev/mapper/a /dev/mapper/b; sleep 2; }
# From now on the last leg takes requests and answers none, and is not suspended: nobody can mean to resume it.
loses() {
    modprobe -a dm-multipath dm-round-robin
    dm suspend --noflush c
    dm load c --table "0 614400 multipath 3 queue_if_no_path queue_mode bio 0 1 1 round-robin 0 1 1 $loop 1"
    dm resume c
    dm message c 0 "fail_path $(lsblk -dno MAJ:MIN "$loop" | tr -d ' ')"
}
raid1_that_loses() {
    mdadm --create /dev/md0 --run --level=1 --raid-devices=2 "$@" /dev/mapper/b /dev/mapper/c; sleep 2; loses
}
poll() { while sleep 0.5; do mdadm --detail --test /dev/md0 >/dev/null </dev/null & done; }
writer() { dd if=/dev/zero of="$1" bs=64k count=1 oflag=direct; }

case $how in
    a-read-of-a-suspended-device)
        dm suspend a; stops
        dd if=/dev/mapper/a of=/dev/null bs=4k iflag=direct ;;
    a-write-to-raid1)
        raid1; dm suspend --noflush b; stops
        writer /dev/md0 ;;
    a-write-while-the-test-polls)
        raid1_that_loses; stops
        writer /dev/md0 & poll ;;
    a-write-while-the-test-prints)
        raid1_that_loses; stops
        writer /dev/md0 & set -x; while sleep 1; do cat /sys/block/md0/md/sync_action; done ;;
    a-write-under-timeout)
        raid1_that_loses; stops
        timeout 100 dd if=/dev/zero of=/dev/md0 bs=64k count=1 oflag=direct ;;
    a-write-beside-a-busy-poll)
        raid1_that_loses --assume-clean; stops
        writer /dev/md0 & while ! grep -q reshape /sys/block/md0/md/sync_action; do :; done ;;
    a-write-beside-io-elsewhere)
        raid1_that_loses; stops
        writer /dev/md0 & while sleep 0.3; do writer /dev/mapper/a; done ;;
    a-write-in-a-cgroup)
        raid1_that_loses; stops
        own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); mkdir "$own/own"
        (echo $BASHPID >"$own/own/cgroup.procs"; writer /dev/md0) ;;
    a-resync-while-the-test-polls)
        raid1_that_loses; stops
        while sleep 0.5; do cat /proc/mdstat >/dev/null; done ;;
    mdadm-stop)
        raid1; dm suspend --noflush b; stops
        mdadm --stop /dev/md0 ;;
    dm-raid-suspended-with-io-in-flight)
        dm create r --table "0 1228800 raid raid5_ls 3 64 region_size 1024 3$legs"
        dmsetup mknodes r; sleep 2; dm suspend --noflush b
        writer /dev/mapper/r & sleep 0.3; stops
        dm suspend r ;;
esac
