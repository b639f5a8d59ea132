# Builds the kernel of /mnt/src into /mnt/obj, with compiler $1 and the options of /mnt/kconfig; what is booted goes to
# /mnt/out: vmlinux, config, release, modules/ as they are installed, debug/ with everything that the compiler knows of
# them. No time, host or counter gets into it, so that the same source gives the same bytes.
set -eu
cd /mnt
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_USER=md-regress KBUILD_BUILD_HOST=md-regress
export KBUILD_BUILD_VERSION=1 TZ=UTC
build() {
    make -C src O=/mnt/obj CC="$1" HOSTCC="$1" CFLAGS_MODULE=-g KCFLAGS=-ffile-prefix-map=/mnt/src/= \
        LOCALVERSION=-md-regress -j"$(nproc)" "${@:2}"
}
mkdir -p obj
# Asked for anew each time: what an older source had no word for would else be missing in the next, and what a newer one
# asks be answered by its default. An unchanged configuration keeps its time, or all would be built again.
build "$1" -s KCONFIG_ALLCONFIG=/mnt/kconfig KCONFIG_CONFIG=/mnt/obj/.config.asked allnoconfig
cmp -s obj/.config.asked obj/.config || cp obj/.config.asked obj/.config
build "$1" vmlinux modules
rm -rf out
mkdir -p out/modules out/debug
build "$1" -s INSTALL_MOD_PATH=/mnt/out/installed INSTALL_MOD_STRIP=1 DEPMOD=true modules_install
release=$(cat obj/include/config/kernel.release)
mv "out/installed/lib/modules/$release" "out/modules/$release"
rm -rf out/installed "out/modules/$release/build" "out/modules/$release/source"
find obj/drivers/md -name '*.ko' -exec cp -t out/debug {} +
objcopy --strip-all --remove-section=.comment obj/vmlinux out/vmlinux
cp obj/.config out/config
echo "$release" >out/release
