# Builds the modules of /mnt/src against the headers of kernel $1, into /mnt/out: NAME.ko as the guest loads
# it, debug/NAME.ko with everything that the compiler knows. $2 is what the sources are called in there.
# What an earlier build left in /mnt/src is built upon.
# BTF would take pahole, and nothing here reads it.
set -eu
cd /mnt
make -C "/usr/src/linux-headers-$1" M=/mnt/src CONFIG_DEBUG_INFO_BTF_MODULES= \
    KCFLAGS="-ffile-prefix-map=/mnt/src/=$2/" -j"$(nproc)" modules
rm -rf out
mkdir -p out/debug
# Not every module that lies there: one may be left from sources that had more.
sed 's/\.k\{0,1\}o$//' src/modules.order | while read -r module; do
    module=${module#/mnt/src/}
    name=${module##*/}
    cp "src/$module.ko" "out/debug/$name.ko"
    strip --strip-debug -o "out/$name.ko" "out/debug/$name.ko"
done
