# Builds the modules of /mnt/src against the headers of kernel $1, into /mnt/out: NAME.ko as the guest loads
# it, debug/NAME.ko with everything that the compiler knows. $2 is what the sources are called in there.
# BTF would take pahole, and nothing here reads it.
set -eu
cd /mnt
make -C "/usr/src/linux-headers-$1" M=/mnt/src CONFIG_DEBUG_INFO_BTF_MODULES= \
    KCFLAGS="-ffile-prefix-map=/mnt/src/=$2/" -j"$(nproc)" modules
mkdir -p out/debug
find src -name '*.ko' | while read -r module; do
    mv "$module" out/debug/
    name=${module##*/}
    strip --strip-debug -o "out/$name" "out/debug/$name"
done
