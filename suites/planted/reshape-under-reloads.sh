#!/bin/bash
# Grows a raid5 by a stripe while its table is loaded again and again, as a resize, a cache or a snapshot would do,
# and compares all data with what was written. The reshape is slowed down so that many reloads meet it.
# md-regress: ram=1G,timeout=6m,modules=dm-raid
. lib/inittest
aux prepare_vg 5 80
lvcreate -aey --type raid5 --stripes 3 --size 96M --name $lv1 $vg
aux wait_for_sync $vg $lv1
device="$DM_DEV_DIR/$vg/$lv1" name=$vg-$lv1
dd if=/dev/urandom of=data bs=1M count=96 status=none
dd if=data of="$device" bs=1M oflag=direct status=none
echo 500 >/proc/sys/dev/raid/speed_limit_min
echo 2000 >/proc/sys/dev/raid/speed_limit_max
lvconvert --yes --stripes 4 $vg/$lv1
for round in $(seq 10); do
    dmsetup status --noflush $name
    dmsetup suspend $name
    dmsetup table $name | dmsetup load $name
    dmsetup resume $name
    sleep 0.3
    # What is broken is left alone: the clean-up of LVM2's library would meet the bug again, and may hang.
    dd if="$device" bs=1M count=96 iflag=direct status=none | cmp - data || { trap - EXIT; exit 1; }
done
vgremove -ff $vg
