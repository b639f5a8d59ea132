#!/bin/bash
# The model's S1, from its first state on: an array whose resync is about to start is suspended and removed.
# On 6.1 a sync thread that is only being made escapes the suspend, and then waits for an array that nobody lets go on:
# dmsetup in kthread_stop ← md_unregister_thread ← __md_stop_writes ← md_stop ← raid_dtr, mdX_resync in
# raid5_get_active_stripe ← raid5_sync_request (docs/md/answers.md [1]). On plant e1, which stops as v6.7 did, a
# resync begun again while the array is suspended is reaped by nobody: dmsetup in stop_sync_thread ←
# __md_stop_writes ← md_stop ← raid_dtr. The window is a few instructions and the making of one thread. To widen it, the kernel's thread that makes
# threads runs here only when nobody else wants the processor, and for two seconds somebody does.
# md-regress: ram=1G,timeout=8m,modules=dm-raid
. lib/inittest
aux prepare_vg 3 80
echo 500 >/proc/sys/dev/raid/speed_limit_min
echo 2000 >/proc/sys/dev/raid/speed_limit_max
name=$vg-$lv1
md_threads() { ps -C mdX_resync,mdX_raid5 -o comm=,stat=,wchan:30= || true; }
for round in $(seq 10); do
    lvcreate -aey --type raid5 --stripes 2 --size 32M --name $lv1 $vg
    dmsetup suspend $name
    chrt --idle --pid 0 2
    timeout 2 bash -c 'while :; do :; done' &
    # The resume asks for the resync (NEEDED), and wakes the daemon, which starts it.
    dmsetup resume $name
    dmsetup suspend $name
    : "suspended"; md_threads
    wait || true
    : "two seconds later"; md_threads
    chrt --other --pid 0 2
    dmsetup remove $name
    lvremove -ff $vg/$lv1
done
vgremove -ff $vg
