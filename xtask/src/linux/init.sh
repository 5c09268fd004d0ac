#!/bin/busybox sh
# The first program of the guest `linux`. It sets the guest up, then runs what `xl create linux
# run='...'` said and powers off, or leaves a shell on the console to busybox's init.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /sbin /usr/bin /usr/sbin
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox --install -s
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/
hostname linux

while read -r module; do
    insmod "/lib/modules/$module"
done < /lib/modules/order

# Frontends connect in their own time: a device that the store names is waited for.
wait_for() {
    tries=100
    while [ ! -e "$1" ] && [ $tries -gt 0 ]; do
        usleep 50000
        tries=$((tries - 1))
    done
    [ -e "$1" ]
}

if [ -e /sys/bus/xen/devices/vbd-51712 ] && wait_for /dev/xvda; then
    mount -t ext4 /dev/xvda /mnt || echo "xvda has no file system: see mount and mke2fs"
fi
ip link set lo up
if [ -e /sys/bus/xen/devices/vif-0 ] && wait_for /sys/class/net/eth0; then
    ip link set eth0 up
    udhcpc -i eth0 -q -n -t 10 -T 1 -S -s /etc/udhcpc > /dev/null 2>&1 || echo "eth0 got no address"
fi

if [ -n "$run" ]; then
    sh -c "$(printf %b "$run")"
    umount -a -r 2> /dev/null
    poweroff -f
fi
exec /sbin/init
