# Builds LVM2 with its whole test suite, in /mnt, into /mnt/out: from the tree of a checkout, or else from
# its source package.
# Configured as widely as the tests ask for; what Debian cannot give (VDO's user space) is left out.
set -eu
cd /mnt
[ -d tree ] || dpkg-source --no-check --extract ./*.dsc tree
cd tree
configure() {
    # The multiarch folder, so that the guest's loader finds the libraries without configuration.
    ./configure --prefix=/usr --exec-prefix=/usr --with-usrlibdir=/usr/lib/x86_64-linux-gnu \
        --with-default-pid-dir=/run --with-default-run-dir=/run/lvm \
        --with-default-locking-dir=/run/lock/lvm \
        --with-device-uid=0 --with-device-gid=6 --with-device-mode=0660 \
        --with-cache=internal --with-integrity=internal --with-thin=internal --with-vdo=internal \
        --with-writecache=internal \
        --enable-applib --enable-blkid_wiping --enable-cmdlib --enable-dmeventd --enable-editline \
        --enable-lvmlockd-dlm --enable-lvmlockd-sanlock --enable-lvmpolld --enable-pkgconfig \
        --enable-udev_rules --enable-udev_sync --enable-write_install --disable-readline
}
# Somebody has built here. The old makefiles know other places than these, so they are made anew first.
if [ -e config.status ]; then
    configure
    make distclean
fi
configure
make -j"$(nproc)"
make install DESTDIR=/mnt/out
# Builds what only the tests use, and installs the tests and their runner.
make -C test -j"$(nproc)" install DESTDIR=/mnt/out
