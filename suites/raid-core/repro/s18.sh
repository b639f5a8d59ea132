#!/bin/bash
# The model's S18: a raid target with a member to be rebuilt is built and destroyed, never resumed. Since v6.7 the
# daemon has the worker look at the spares of a read-only array, frozen or not (md_check_recovery), and since
# 16c4770c75b1 (v6.9) raid_dtr waits for no worker: it frees the raid_set that md_start_sync uses. The NULL that
# md_start_sync then finds is mddev->pers. Here the target is destroyed because a later one of the same table cannot be
# built, so that no grace period lies between the two. To widen the window, the threads of the work queue run only when
# nobody else wants the processor, and somebody does; dmsetup runs before all others; and the delay targets each wait
# for a thread to be made, which lets the daemon run.
# md-regress: ram=1G,timeout=6m,modules=dm-raid+dm-delay
. lib/inittest
aux prepare_vg 3 80
lvcreate -aey --type raid5 --stripes 2 --size 32M --name $lv1 $vg
aux wait_for_sync $vg $lv1
name=$vg-$lv1
member=$(dmsetup table $name | awk '{ print $NF }')
workers() { ps -e -o pid=,comm= | awk '$2 ~ /^kworker\/[0-9]+:[0-9]/ && $2 !~ /H/ { print $1 }'; }
policy() { for pid in $(workers); do chrt "$1" --pid 0 "$pid" || true; done; }
rebuild() {
    dmsetup table $name | awk '{
        last = 5 + $5; $5 += 2; $last = $last " rebuild 0"; print; first = $2
        for (idx = 0; idx < 16; idx++) print first + idx * 8, 8, "delay", member, 0, 100
    }' member="$member"
}
# The table itself can be built.
rebuild | dmsetup load $name
dmsetup clear $name
for round in $(seq 40); do
    policy --idle
    timeout 2 bash -c 'while :; do :; done' &
    sleep 0.5
    end=$(rebuild | awk 'END { print $1 + $2 }')
    (rebuild; echo "$end 8 linear /dev/there-is-none 0") | chrt --fifo 50 dmsetup load $name && exit 1
    wait || true
    policy --other
    # TAINT_DIE: what follows an oops tells nothing.
    (($(cat /proc/sys/kernel/tainted) & 128)) && exit 1
done
vgremove -ff $vg
