#!/bin/bash
# Runs one test of mdadm's in the guest: one-test.sh NAME PROGRAM…, in the folder of mdadm's `./test`.
#
# The test is run by `./test --tests=NAME`, so that it gets the loop devices, the speed limits and the clean-up
# that its authors give it. What ./test does not do is done here:
#
# - it looks for programs (PROGRAM…) that only some tests want, before the test fails without them;
# - it starts a udev daemon, and answers for systemctl and SELinux, which are not in this guest;
# - it shows the test's trace while it runs: ./test keeps it in a file;
# - it tells a skip from a pass: ./test ends with 0 after both;
# - it says what ./test's check of the kernel's log would find, if it worked;
# - it says what the note NAME.broken says.
#
# Words that the harness reads (suite.toml, [contract]) begin with "md-regress: ".
name=$1
shift
work=/run/md-regress-mdadm   # nothing of it is seen by the test
log=/var/tmp/log             # where ./test keeps the test's trace
mkdir -p $work

skip() {
    echo "md-regress: skipped: $*"
    exit 3
}

for program in $*; do
    command -v "$program" >/dev/null || skip "the guest has no program \`$program\`"
done
[ -f "tests/$name" ] || { echo "md-regress: there is no test tests/$name"; exit 1; }
if [ -f "tests/$name.broken" ]; then
    note=$(tr -s '\n\t ' ' ' <"tests/$name.broken")
    echo "md-regress: known to fail: upstream's tests/$name.broken says: ${note:0:400}"
fi

# The daemons are the guest's, not the test's, and outside its cgroup: what they wait for is not its waiting.
outside() (
    echo 0 >/sys/fs/cgroup/cgroup.procs
    exec "$@"
)
outside /usr/lib/systemd/systemd-udevd --daemon

# The manager that systemctl would ask is not there. mdadm does without (MDADM_NO_SYSTEMCTL): it starts mdmon and
# continues a reshape itself, and they inherit what ./test wants systemd to give them (suite.toml, [run.env]).
systemctl() {
    case $1 in
        set-environment|unset-environment) ;;
        *) echo "md-regress: no systemd here to $*" >&2; return 1 ;;
    esac
}
getenforce() { echo Disabled; }
setenforce() { :; }
# ./test's check of the kernel's log is the only call without arguments.
dmesg() {
    if [ $# = 0 ]; then command dmesg | tee /run/md-regress-mdadm/kernel-log; else command dmesg "$@"; fi
}
export -f systemctl getenforce setenforce dmesg

# Up to 4.2 ./test wants the programs where they were built.
if grep -q '^mdadm=\$PWD/mdadm' test; then
    ln -s "$(command -v mdadm)" "$(command -v mdmon)" .
fi

# ./test fills the files behind its loop devices 1 KiB at a time, which emulation needs many seconds for; files
# that are there it takes as they are. Its sizes are in its own words.
eval "$(grep -E '^(size|ddfsize)=[0-9]+$' tests/func.sh)"
for idx in {0..13}; do
    kib=${size:-}
    [ "$idx" -le 7 ] || kib=${ddfsize:-}
    [ -z "$kib" ] || truncate --size="${kib}K" "/var/tmp/mdtest$idx"
done

: >$log
./test --tests="$name" >$work/told 2>&1 &
test_pid=$!
outside tail --pid=$test_pid --sleep-interval=0.2 --lines=+1 --follow $log 2>/dev/null &
tail_pid=$!
wait $test_pid
status=$?
wait $tail_pid

# A failure's cause is above this line; `die` names it before a long trace of what ./test keeps.
[ -s $log ] || cat $work/told
[ $status = 0 ] || sed -n 's/^[[:space:]]*ERROR: /the test says: ERROR: /p' $log | head -n 1
echo "md-regress: what ./test says:"
cat $work/told
echo
cat /var/tmp/fail"$name".log 2>/dev/null

# Programs that ./test itself wants, before it runs anything.
missing=$(grep -m 1 'command not found!$' $work/told)
[ $status = 0 ] || [ -s $log ] || [ -z "$missing" ] || skip "$missing"
[ $status = 0 ] || exit $status

# By `skip`, or, older, by a word and status 0.
if grep -q "/$name\.\.\. .*skipping" $work/told; then
    skip "$(sed -n 's/^[[:space:]]*SKIPPING, REASON: //p' $log | head -n 1)"
fi
# Some say nothing at all: one that ends after its first commands has tested nothing.
n_commands=$(grep -c '^+' $log)
if [ "$n_commands" -le 5 ]; then
    skip "it ended after $n_commands commands: $(grep '^+' $log | tail -n 3 | tr '\n' ' ')"
fi

# The check as it is meant to be: what it looks for, without systemd's lines. One kind of line is this guest's
# doing: the files behind the loop devices lie on a tmpfs, which cannot zero a range, and the driver says so.
ours='operation not supported error, dev loop[0-9]*, sector [0-9]* op 0x9:(WRITE_ZEROES)'
if [ -f "tests/$name.inject_error" ]; then
    echo "md-regress: the kernel's log is not looked at: the test injects errors"
elif [ -f $work/kernel-log ]; then
    grep -i 'error\|call trace\|segfault' $work/kernel-log | grep -v systemd >$work/found
    grep -v "$ours" $work/found | sed "s/^/md-regress: upstream's check of the kernel's log, if it worked: /"
    n_ours=$(grep -c "$ours" $work/found)
    [ "$n_ours" = 0 ] || echo "md-regress: not counted: $n_ours lines of WRITE_ZEROES to a loop device on a tmpfs"
fi
exit 0
