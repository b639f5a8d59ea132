#!/bin/bash
# The model's S4: the table of an interrupted reshape is loaded and cleared, never resumed. On plant e4 the clear
# hangs: dmsetup in stop_sync_thread ← __md_stop_writes ← md_stop ← raid_dtr.
# md-regress: ram=1G,timeout=6m,modules=dm-raid
. lib/inittest
aux prepare_vg 5 80
lvcreate -aey --type raid5 --stripes 3 --size 96M --name $lv1 $vg
aux wait_for_sync $vg $lv1
name=$vg-$lv1
echo 500 >/proc/sys/dev/raid/speed_limit_min
echo 2000 >/proc/sys/dev/raid/speed_limit_max
lvconvert --yes --stripes 4 $vg/$lv1
sleep 2
dmsetup status --noflush $name
dmsetup suspend $name
dmsetup table $name | dmsetup load $name
dmsetup clear $name
dmsetup resume $name
vgremove -ff $vg
