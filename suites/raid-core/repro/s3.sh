#!/bin/bash
# The model's S3: a table asks for a reshape, which has to wait for a reload, and is suspended before that.
# lvconvert does both. On a kernel whose sync thread leaves without DONE (plant e3) the suspend hangs:
# lvm in stop_sync_thread ← raid_presuspend or raid_postsuspend.
# md-regress: ram=1G,timeout=6m,modules=dm-raid
. lib/inittest
aux prepare_vg 5 80
lvcreate -aey --type raid5 --stripes 3 --size 96M --name $lv1 $vg
aux wait_for_sync $vg $lv1
name=$vg-$lv1
echo 500 >/proc/sys/dev/raid/speed_limit_min
echo 2000 >/proc/sys/dev/raid/speed_limit_max
lvconvert --yes --stripes 4 $vg/$lv1
dmsetup status --noflush $name
vgremove -ff $vg
