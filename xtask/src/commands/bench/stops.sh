# Moves for some seconds, says when it stops, and never moves again. `how` is set in front of this.
# md-regress: modules=raid1+raid456+dm-raid,timeout=10m,silence=5m
set -eu
read -r began _ </proc/uptime
stops() { read -r now _ </proc/uptime; awk "BEGIN { printf \"stops after %.2f s\\n\", $now - $began }"; }
dm() { dmsetup --noudevsync "$@"; }

legs=
for leg in a b c; do
    truncate -s 300M /tmp/$leg
    dm create $leg --table "0 614400 linear $(losetup -f --show /tmp/$leg) 0"
    dmsetup mknodes $leg
    legs="$legs - /dev/mapper/$leg"
done
# Slow enough to go on until it is stopped.
echo 2000 >/proc/sys/dev/raid/speed_limit_max
raid1() { mdadm --create /dev/md0 --run --level=1 --raid-devices=2 /dev/mapper/a /dev/mapper/b; sleep 2; }
writer() { dd if=/dev/zero of="$1" bs=64k count=1 oflag=direct; }

case $how in
    a-read-of-a-suspended-device)
        dm suspend a; stops
        dd if=/dev/mapper/a of=/dev/null bs=4k iflag=direct ;;
    a-write-to-raid1)
        raid1; dm suspend --noflush b; stops
        writer /dev/md0 ;;
    a-write-while-the-test-polls)
        raid1; dm suspend --noflush b; stops
        writer /dev/md0 & while sleep 0.5; do mdadm --detail --test /dev/md0 >/dev/null </dev/null & done ;;
    a-resync-while-the-test-polls)
        raid1; dm suspend --noflush b; stops
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
