#!/bin/bash
# The model's S1: a resync runs, the device is suspended and removed. Many times, because the window is short
# (ANSWERS.md [1]): before v6.7 the sync thread that starts in it waits for an array that nobody lets go on.
# md-regress: ram=1G,timeout=8m,modules=dm-raid
. lib/inittest
aux prepare_vg 3 80
for round in $(seq 60); do
    lvcreate -aey --type raid5 --stripes 2 --size 32M --name $lv1 $vg
    dmsetup message $vg-$lv1 0 check || true
    dmsetup suspend $vg-$lv1
    dmsetup remove --force --retry $vg-$lv1 || true
    lvchange -an $vg/$lv1 || true
    lvremove -ff $vg/$lv1
done
vgremove -ff $vg
