#!/bin/bash
# Makes a raid1 of a raid5 of two disks, which is the same data, and reads it.
# md-regress: ram=768M,disks=2x64M,timeout=5m,modules=raid1+raid456
set -ex
set -- $MD_REGRESS_DISKS
mdadm --create /dev/md0 --run --assume-clean --level=5 --raid-devices=2 "$1" "$2"
dd if=/dev/urandom of=/tmp/data bs=1M count=8 status=none
dd if=/tmp/data of=/dev/md0 bs=1M oflag=direct status=none
echo raid1 >/sys/block/md0/md/level
dd if=/dev/md0 bs=1M count=8 iflag=direct status=none | cmp - /tmp/data
mdadm --stop /dev/md0
