# Builds mdadm, in /mnt, into /mnt/out, its tests beside it: from the tree of a checkout, or else from its
# source package.
set -eu
cd /mnt
[ -d tree ] || dpkg-source --no-check --extract ./*.dsc tree
cd tree
# Somebody may have built here.
make clean
# Upstream's folders are those before /usr was merged. A warning that only this compiler has is no error.
build() {
    make CXFLAGS="-O2 -g -Wno-error" BINDIR=/usr/sbin SYSTEMD_DIR=/usr/lib/systemd/system \
        UDEVDIR=/usr/lib/udev "$@"
}
build -j"$(nproc)"
build install install-systemd DESTDIR=/mnt/out
suite=/mnt/out/usr/share/mdadm-testsuite
mkdir -p $suite
cp -r test tests $suite/
# Programs that only tests use: they look for them in their working folder. A version without one of them
# has no test that uses it, or that test says so.
for program in raid6check swap_super test_stripe; do
    if [ -e $program.c ] || grep -q "^$program *:" Makefile; then
        build $program
        cp $program $suite/
    fi
done
