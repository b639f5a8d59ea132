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
mkdir -p /mnt/out/usr/share/mdadm-testsuite
cp -r test tests /mnt/out/usr/share/mdadm-testsuite/
