#!/bin/busybox sh
# What xl calls for a guest's network interface: joins it to the bridge.
[ "$1" = online ] || exit 0
ip link set "$vif" up
brctl addif "$(xenstore-read "$XENBUS_PATH/bridge")" "$vif"
xenstore-write "$XENBUS_PATH/hotplug-status" connected
