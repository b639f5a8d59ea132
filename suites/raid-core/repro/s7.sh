#!/bin/bash
# The model's S7: a reshape is frozen, a read waits across its position, and the device is suspended. On 6.1, which
# freezes on the message, both hang: dd in wait_woken ← raid5_make_request ← md_handle_request ← raid_map, dmsetup in
# __synchronize_srcu ← __dm_suspend.
# Two things are arranged. The message may not meet the daemon's own reap, or the reshape may count as done (s6.sh):
# the sync thread and the message run before all others. And it comes midway between two writings of the superblocks:
# a read waits between the position that they have, which is what the status says, and where the reshape really is.
# md-regress: ram=1G,timeout=6m,modules=dm-raid
. lib/inittest
aux prepare_vg 5 80
lvcreate -aey --type raid5 --stripes 3 --size 96M --name $lv1 $vg
aux wait_for_sync $vg $lv1
name=$vg-$lv1
echo 500 >/proc/sys/dev/raid/speed_limit_min
echo 2000 >/proc/sys/dev/raid/speed_limit_max
lvconvert --yes --stripes 4 $vg/$lv1
written() { dmsetup status --noflush $name | sed 's|.* \([0-9]*\)/[0-9]* .*|\1|'; }
until [ "$(written)" -ge 12000 ]; do sleep 0.1; done
# They are written again in 1.5 s.
sleep 0.7
chrt --fifo --pid 50 "$(pgrep "mdX_res(hape|ync)")"
chrt --fifo 50 dmsetup message $name 0 frozen || true
dmsetup status --noflush $name
dd if="$DM_DEV_DIR/$vg/$lv1" of=/dev/null bs=64k iflag=direct status=none &
sleep 5
dmsetup suspend --noflush --nolockfs $name
dmsetup resume $name
wait
vgremove -ff $vg
