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
# Programs that only tests use: they look for them in their working folder. Upstream does not build them, so a
# tree may lack one, or one that does not compile: a test that wants it says so.
for program in raid6check swap_super test_stripe; do
    if build $program; then cp $program $suite/; else echo "without $program: it does not build"; fi
done
