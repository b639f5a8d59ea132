#!/bin/bash
# The model's S1 as s1.sh has it, on a raid1, which the model leaves out. On 6.1 both stacks are those of LVM2's
# integrity-caching.sh: dmsetup in kthread_stop ← md_unregister_thread ← __md_stop_writes ← md_stop ← raid_dtr,
# mdX_resync in _wait_barrier ← raid1_sync_request.
# md-regress: ram=1G,timeout=8m,modules=dm-raid
. lib/inittest
aux prepare_vg 2 80
echo 500 >/proc/sys/dev/raid/speed_limit_min
echo 2000 >/proc/sys/dev/raid/speed_limit_max
name=$vg-$lv1
md_threads() { ps -C mdX_resync,mdX_raid1 -o comm=,stat=,wchan:30= || true; }
for round in $(seq 10); do
    lvcreate -aey --type raid1 --mirrors 1 --size 32M --name $lv1 $vg
    dmsetup suspend $name
    chrt --idle --pid 0 2
    timeout 2 bash -c 'while :; do :; done' &
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
