#!/bin/busybox sh
# What xl calls for a guest's disk: tells the backend which device of dom0 it is.
[ "$1" = add ] || exit 0
device=$(xenstore-read "$XENBUS_PATH/params")
xenstore-write "$XENBUS_PATH/physical-device" "$(stat -L -c %t:%T "$device")" \
    "$XENBUS_PATH/hotplug-status" connected
