#!/bin/busybox sh
# First process of the guest: prepares it, runs /job/run, says how that ended, powers off.
# Console (ttyS0): kernel messages and the exit line. ttyS1: what the program prints.
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
$busybox mkdir -p /dev/pts /dev/shm
$busybox mount -t devpts devpts /dev/pts
$busybox mount -t tmpfs tmpfs /dev/shm
$busybox mount -t bpf bpf /sys/fs/bpf
$busybox mount -t cgroup2 cgroup /sys/fs/cgroup
$busybox mount -t debugfs debugfs /sys/kernel/debug
$busybox mount -t tracefs tracefs /sys/kernel/tracing
$busybox hostname guest
$busybox ip link set lo up
$busybox stty -F /dev/ttyS1 raw -echo clocal 115200

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=dumb
status=0
for module in $($busybox cat /job/modules); do
    $busybox modprobe "$module" >/dev/ttyS1 2>&1 || status=125
done
if [ $status = 0 ]; then
    cd /job
    # Closing ttyS1 waits until the last byte is out.
    /job/run </dev/null >/dev/ttyS1 2>&1
    status=$?
fi
echo "pointsman-guest: exit status $status" >/dev/ttyS0
$busybox poweroff -f
