# Builds mdadm, in /mnt, from its source package, into /mnt/out, its tests beside it.
set -eu
cd /mnt
dpkg-source --no-check --extract ./*.dsc tree
cd tree
make -j"$(nproc)" CXFLAGS="-O2 -g"
make install install-systemd DESTDIR=/mnt/out
mkdir -p /mnt/out/usr/share/mdadm-testsuite
cp -r test tests /mnt/out/usr/share/mdadm-testsuite/
