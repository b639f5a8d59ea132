#!/bin/bash
# The model's S17: a device is suspended, then what its members are on, then the device is removed. The bitmap is to be
# written once more, to members that nobody resumes: dmsetup in __md_stop_writes ← md_stop ← raid_dtr. cefcb9297fbd leaves that
# out for a read-only array; raid_postsuspend makes it one only since 55dcfdf8af9c, which 6.12.117 does not have.
# md-regress: ram=1G,timeout=4m,modules=dm-raid
. lib/inittest
aux prepare_vg 3 80
lvcreate -aey --type raid5 --stripes 2 --size 32M --name $lv1 $vg
aux wait_for_sync $vg $lv1
name=$vg-$lv1
dmsetup suspend $name
for member in 0 1 2; do
    dmsetup suspend ${name}_rmeta_$member
    dmsetup suspend ${name}_rimage_$member
done
for member in 0 1 2; do
    dmsetup info --columns --noheadings -o suspended ${name}_rmeta_$member | grep -qx Suspended
done
dmsetup remove $name
for member in 0 1 2; do
    dmsetup resume ${name}_rmeta_$member
    dmsetup resume ${name}_rimage_$member
done
vgremove -ff $vg
