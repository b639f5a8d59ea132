#!/bin/bash
# The model's S6f with data, and a reshape in the resync's place: message "frozen", which reaps the sync thread without
# reconfig_mutex (before cd32b27a66db), beside the daemon. While the message waits for the thread to end, the daemon
# finds no sync thread and clears INTR; what is reaped then counts as a reshape that was done. On 6.1 the superblocks
# say so (reshape_position MaxSector, in the new geometry), and all data come back wrong: nobody is stuck, and the
# kernel's log has no word of it.
# The daemon runs before all others here, which decides the race; it goes that way without help, too.
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
# Of two raid_sets, the older one may not be gone yet.
daemon() { pgrep --newest mdX_raid5; }
compare() { dd if="$device" bs=1M count=96 iflag=direct status=none | cmp - data; }
lvconvert --yes --stripes 4 $vg/$lv1
sleep 1
# While the reshape goes on, all data are there.
compare
dmsetup status --noflush $name
chrt --fifo --pid 50 "$(daemon)"
dmsetup message $name 0 frozen || true
chrt --other --pid 0 "$(daemon)"
dmsetup status --noflush $name
# reshape_position, and behind it level and layout to come: of the superblocks, as dm-raid lays them out.
dd if="$DM_DEV_DIR/mapper/${name}_rmeta_0" bs=512 count=1 iflag=direct status=none | od --address-radix=d --format=x8 -j 64 -N 16
# The reshape goes on, where it is not frozen or done; a read that waits for it may wait for that.
dmsetup suspend --noflush --nolockfs $name
dmsetup resume $name
compare || { trap - EXIT; exit 1; }
vgremove -ff $vg
