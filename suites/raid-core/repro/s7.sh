#!/bin/bash
# The model's S7: a reshape is frozen, a read waits across its position, and the device is suspended. On 6.1, which
# freezes on the message, both hang: dd in wait_woken ← raid5_make_request ← raid_map, dmsetup in __dm_suspend.
# md-regress: ram=1G,timeout=6m,modules=dm-raid
. lib/inittest
aux prepare_vg 5 80
lvcreate -aey --type raid5 --stripes 3 --size 96M --name $lv1 $vg
aux wait_for_sync $vg $lv1
name=$vg-$lv1
echo 500 >/proc/sys/dev/raid/speed_limit_min
echo 2000 >/proc/sys/dev/raid/speed_limit_max
lvconvert --yes --stripes 4 $vg/$lv1
sleep 3
dmsetup message $name 0 frozen || true
dmsetup status --noflush $name
dd if="$DM_DEV_DIR/$vg/$lv1" of=/dev/null bs=64k iflag=direct status=none &
sleep 5
dmsetup suspend --noflush --nolockfs $name
dmsetup resume $name
wait
vgremove -ff $vg
