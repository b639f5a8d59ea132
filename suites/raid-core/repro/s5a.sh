#!/bin/bash
# The model's S5a: a reshape runs, the device is suspended, its table loaded again and resumed, while data are
# written through it. On a kernel that stops without freezing (plant b0) the old raid_set goes on reshaping beside the
# new one, and what was written comes back old.
# md-regress: ram=1G,timeout=6m,modules=dm-raid
. lib/inittest
aux prepare_vg 5 80
lvcreate -aey --type raid5 --stripes 3 --size 96M --name $lv1 $vg
aux wait_for_sync $vg $lv1
name=$vg-$lv1
echo 500 >/proc/sys/dev/raid/speed_limit_min
echo 2000 >/proc/sys/dev/raid/speed_limit_max
device="$DM_DEV_DIR/$vg/$lv1"
dd if=/dev/urandom of=data bs=1M count=96 status=none
dd if=data of="$device" bs=1M oflag=direct status=none
lvconvert --yes --stripes 4 $vg/$lv1
for round in $(seq 10); do
    dmsetup suspend $name
    dmsetup table $name | dmsetup load $name
    dmsetup resume $name
    # A piece of new data, written at once, where the reshape is not far.
    dd if=/dev/urandom of=piece bs=1M count=4 status=none
    dd if=piece of=data bs=1M seek=$((round * 8)) conv=notrunc status=none
    dd if=piece of="$device" bs=1M seek=$((round * 8)) oflag=direct conv=notrunc status=none
    sleep 0.3
    dd if="$device" bs=1M count=96 iflag=direct status=none | cmp - data || { trap - EXIT; exit 1; }
done
vgremove -ff $vg
