#!/bin/bash
# The model's S5a: a reshape runs; the device is suspended, its table loaded again and resumed, and data are written
# through the new table. On a kernel that stops without freezing (plant b0, as v6.8 did) the old raid_set goes on
# reshaping while it is suspended (I5) and while the new one, which began where the superblocks stood when its table
# was loaded, reshapes too (I6). What was moved is moved again from where it no longer is: blocks come back wrong (I7).
# Nothing is made to be late here; there is only a second and more between the load and the resume, in which a good
# kernel's reshape stands.
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
for round in $(seq 5); do
    dmsetup suspend $name
    dmsetup status --noflush $name
    dmsetup table $name | dmsetup load $name
    sleep 1.5
    dmsetup status --noflush $name
    dmsetup resume $name
    dd if=/dev/urandom of=piece bs=1M count=1 status=none
    dd if=piece of=data bs=1M seek=$((round * 16)) conv=notrunc status=none
    dd if=piece of="$device" bs=1M seek=$((round * 16)) oflag=direct conv=notrunc status=none
    # What is broken is left alone: the clean-up of LVM2's library would meet the bug again, and may hang.
    dd if="$device" bs=1M count=96 iflag=direct status=none | cmp - data || { trap - EXIT; exit 1; }
done
vgremove -ff $vg
