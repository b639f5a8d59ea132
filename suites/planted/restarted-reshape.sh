#!/bin/bash
# Makes a raid6 of a raid5 with a file system, stops the reshape on its way, begins it again, and looks at each file
# and at the file system.
# md-regress: ram=1G,disks=4x128M,timeout=6m,modules=raid456
set -e
set -- $MD_REGRESS_DISKS
mdadm --create /dev/md0 --run --assume-clean --level=5 --raid-devices=3 "$1" "$2" "$3"
mdadm /dev/md0 --add "$4"
mkfs.ext4 -q /dev/md0
mkdir -p /tmp/mnt
mount /dev/md0 /tmp/mnt
for file in $(seq 40); do dd if=/dev/urandom of=/tmp/mnt/$file bs=1M count=4 status=none; done
(cd /tmp/mnt && md5sum [0-9]* >/tmp/sums)
umount /tmp/mnt
cd /sys/block/md0/md
echo 4000 >sync_speed_max
mdadm --grow /dev/md0 --level=6 --raid-devices=4 --backup-file=/tmp/backup
for round in 1 2 3; do
    sleep 4
    echo "round $round: at $(cat reshape_position), $(cat sync_completed)"
    echo frozen >sync_action
    echo reshape >sync_action || true
done
echo max >sync_max
echo 200000 >sync_speed_max
while [ "$(cat sync_action)" != idle ]; do sleep 1; done
cat /proc/mdstat
echo 3 >/proc/sys/vm/drop_caches
fsck.ext4 -fn /dev/md0
mount -o ro /dev/md0 /tmp/mnt
(cd /tmp/mnt && md5sum --quiet -c /tmp/sums)
