#!/bin/bash
# md-regress: ram=4G,vcpus=2,timeout=60m,silence=30m
# LVM2's own runner, as its manual says; what it found is handed back, with the logs of what did not pass.
run_by_lvm2() {
    mkdir -p /tmp/results
    lvm2-testsuite --batch --outdir /tmp/results --flavours "$1" --only "$2"
    echo "the runner ended with $?"
    cp /tmp/results/journal "$MD_REGRESS_FILES/" || return
    while read -r test state; do
        [ "$state" = passed ] || cp "/tmp/results/${test//\//_}.txt" "$MD_REGRESS_FILES/"
    done </tmp/results/list
    return 0
}
