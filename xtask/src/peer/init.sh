#!/bin/busybox sh
# The first program of dom0, Linux on Debian's Xen. It starts Xen's own tools, gives the guests a bridge
# and addresses, does the steps that the host has left in /steps one after the other, and powers off.
/bin/busybox mkdir -p /proc /sys /dev /sbin /usr/bin /usr/sbin /var/log/xen/console /var/lib/xen \
    /var/lib/xenstored /var/lock /run/xen /run/xenstored /tmp
/bin/busybox ln -s /run /var/run
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox --install -s
PATH=$(echo /usr/lib/xen-*/bin):/usr/sbin:/usr/bin:/sbin:/bin
export PATH HOME=/
mkdir /dev/pts
mount -t devpts devpts /dev/pts
ulimit -c 0

while read -r module; do
    insmod "/lib/modules/$module"
done < /lib/modules/order
mount -t xenfs xenfs /proc/xen

# The kernel finds disks in any order; their serial numbers are their names.
for disk in /sys/block/vd*; do
    [ -e "$disk/serial" ] && ln -s "${disk##*/}" "/dev/$(cat "$disk/serial")"
done

xenstored --pid-file /run/xenstored.pid
until xenstore-exists / 2> /dev/null; do usleep 50000; done
xen-init-dom0
xenconsoled --log=guest --log-dir=/var/log/xen/console --pid-file=/run/xenconsoled.pid

# The addresses are those of Aurochs' own network: the same guests are at home there.
ip link set lo up
brctl addbr xenbr0
ip address add 10.0.2.2/24 dev xenbr0
ip link set xenbr0 up
: > /run/leases
udhcpd /etc/udhcpd.conf

log_of() { echo "/var/log/xen/console/guest-$1.log"; }

# Creates a domain and leaves it to itself.
create() { xl create -q "/guests/$1.cfg"; }

# Creates a domain, waits for its end and shows what it said. xl keeps the domain until then: where
# much is said at once, xenconsoled pauses for 200 ms, and would lose the rest.
run_guest() {
    timeout -s KILL "${2:-120}" xl create -F "/guests/$1.cfg" 'on_poweroff="preserve"' \
        'on_crash="preserve"' > /run/xl 2>&1
    result=$?
    [ $result = 0 ] || cat /run/xl
    usleep 300000
    cat "$(log_of "$1")"
    xl destroy "$1"
    return $result
}

# Waits until a domain has said something.
wait_for_line() {
    tries=600
    until grep -q "$2" "$(log_of "$1")" 2> /dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { cat "$(log_of "$1")"; return 1; }
        usleep 200000
    done
}

echo "==== up"
for step in /steps/*; do
    name=${step##*/}
    echo "==== begin ${name#*-}"
    (. "$step")
    echo "==== end $?"
done
poweroff -f
