#!/bin/bash
# The model's S6f with data, and a reshape in the resync's place: message "frozen", which reaps the sync thread without
# reconfig_mutex (before cd32b27a66db), beside the daemon. While the message waits for the thread to end, the daemon
# finds no sync thread and clears INTR; what is reaped then counts as a reshape that was done, and reads go where nothing
# has been moved to yet. On 6.1 the data come back wrong: nobody is stuck, and the kernel's log has no error.
# The daemon runs before all others here, which decides the race.
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
# How many pieces of 1 MiB differ, of 96.
differing() {
    local n=0
    for piece in $(seq 0 95); do
        cmp --silent --bytes=1048576 --ignore-initial=0:$((piece << 20)) \
            <(dd if="$device" bs=1M skip="$piece" count=1 iflag=direct status=none) data || n=$((n + 1))
    done
    echo "$n of 96 pieces of 1 MiB differ"
}
# reshape_position, level, layout and what they are to become, delta_disks: of the superblocks, as dm-raid lays them out.
superblock() {
    dd if="$DM_DEV_DIR/mapper/${name}_rmeta_0" bs=512 count=1 iflag=direct status=none | od --address-radix=d --format=x4 -j 64 -N 64
}
lvconvert --yes --stripes 4 $vg/$lv1
sleep 1
# While the reshape goes on, all data are there.
compare
dmsetup status --noflush $name
superblock
chrt --fifo --pid 50 "$(daemon)"
dmsetup message $name 0 frozen || true
chrt --other --pid 0 "$(daemon)"
dmsetup status --noflush $name
superblock
# The reshape goes on, where it is not frozen or done; a read that waits for it may wait for that.
dmsetup suspend --noflush --nolockfs $name
dmsetup resume $name
compare || { differing; trap - EXIT; exit 1; }
vgremove -ff $vg
