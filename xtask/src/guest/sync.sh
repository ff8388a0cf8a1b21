# Connections of the kernel's IPVS go on at Pointsman, and Pointsman's at the kernel's. Argument: the program.
#
# One segment: k, the kernel's director (10.0.0.1); p, Pointsman's (10.0.0.2); c, the client (10.0.0.3);
# s, the real server (10.0.0.4), by direct routing and, at port 81, by a tunnel.
program=$1
export POINTSMAN_SOCKET=/tmp/api.sock POINTSMAN_LOG=error

at() { local host=$1; shift; ip netns exec "$host" "$@"; }
ours() { "$program" ipvsadm "$@"; }
theirs() { at k ipvsadm "$@"; }

fail() {
    echo "sync: $1"
    echo "the kernel:"; theirs -Lcn; theirs -Ln; theirs -L --daemon; at k cat /proc/net/ip_vs_conn_sync
    echo "Pointsman:"; ours -Lcn; ours -Ln; ours -L --daemon
    exit 1
}

# Waits until a command succeeds.
wait_for() {
    local what=$1 tries=0
    shift
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 150 ] || fail "waited in vain for $what"
        sleep 0.2
    done
}

listed() { "$1" -Lcn | tr -s ' ' | grep -q "$2"; }

mkdir -p /tmp /var/run/netns
# A tunnel module would put a device that is down into every namespace made later.
echo 2 >/proc/sys/net/core/fb_tunnels_only_for_init_net
ip link add br0 type bridge
ip link set br0 up
number=0
for host in k p c s; do
    number=$((number + 1))
    ip netns add $host
    ip link add "v$host" type veth peer name eth0 netns $host
    ip link set "v$host" master br0 up
    at $host sysctl -q -w net.ipv6.conf.eth0.dad_transmits=0 net.ipv4.conf.all.rp_filter=0 \
        net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0
    ip -n $host link set lo up
    ip -n $host address add 10.0.0.$number/24 dev eth0
    ip -n $host address add fd00::$number/64 dev eth0 nodad
    ip -n $host link set eth0 up
done
at k sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
at s sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
for address in 10.0.0.101/32 10.0.0.102/32; do ip -n s address add $address dev lo; done
for address in fd00::101/128 fd00::102/128; do ip -n s address add $address dev lo nodad; done
ip -n s link add ipip0 type ipip local 10.0.0.4
at s sysctl -q -w net.ipv4.conf.ipip0.rp_filter=0
ip -n s link set ipip0 up
for port in 80 81; do
    at s nc -ll -p $port -e cat &
done

: >/tmp/ready
at p "$program" run --pin-dir /sys/fs/bpf/sync --no-state --interface eth0 >/tmp/ready 2>/tmp/log &
wait_for "Pointsman" grep -q '^ready' /tmp/ready

for director in theirs ours; do
    for vip in 10.0.0.101 10.0.0.102; do
        $director -A -t $vip:80 -s rr
        $director -a -t $vip:80 -r 10.0.0.4:80 -g
        $director -A -t $vip:81 -s rr -p 77
        $director -a -t $vip:81 -r 10.0.0.4:81 -i
        $director -A -u $vip:53 -s rr
        $director -a -u $vip:53 -r 10.0.0.4:53 -g
    done
    for vip in fd00::101 fd00::102; do
        $director -A -t [$vip]:80 -s rr
        $director -a -t [$vip]:80 -r [fd00::4]:80 -g
    done
done

# Gives a host the addresses that end with these words; who had them forgets.
give() {
    local to=$1 from=$2 last=$3
    ip -n "$from" address delete 10.0.0.$last/32 dev eth0 2>/dev/null
    ip -n "$from" address delete fd00::$last/128 dev eth0 2>/dev/null
    ip -n "$to" address add 10.0.0.$last/32 dev eth0
    ip -n "$to" address add fd00::$last/128 dev eth0 nodad
    ip -n c neighbour flush dev eth0
}

# A client that says what its input says, on one connection to each address and port, and prints what it
# hears; ends when its input does.
client='
vip=$1 six=$2
exec 3<>/dev/tcp/$vip/80 4<>/dev/tcp/$vip/81 5<>/dev/tcp/$six/80 6<>/dev/udp/$vip/53 || exit 1
while read -r word; do
    # Nobody listens there, so that every second one only learns that the one before was refused.
    for again in 1 2 3; do echo "$word" >&6; done 2>/dev/null
    for fd in 3 4 5; do
        echo "$word" >&$fd
        read -r -t 60 answer <&$fd && echo "$fd $answer"
    done
done
'
# Says some words to the client, and waits for all answers.
say() {
    local word fd
    for word in "$@"; do
        echo "$word" >&9
        for fd in 3 4 5; do
            wait_for "the answer to $word on $fd" grep -qx "$fd $word" /tmp/heard
        done
    done
}

# Connections begin at one director, are told to the other, and go on there.
move() {
    local from=$1 to=$2 last=$3 knows=$4 host_from=$5 host_to=$6
    give "$host_from" "$host_to" "$last"
    rm -f /tmp/words /tmp/heard
    mkfifo /tmp/words
    at c bash -c "$client" client 10.0.0.$last fd00::$last </tmp/words >/tmp/heard &
    exec 9>/tmp/words
    say one two three four
    for state in "TCP [0-9:]* ESTABLISHED 10.0.0.3:[0-9]* 10.0.0.$last:80 10.0.0.4:80" \
        "TCP [0-9:]* ESTABLISHED 10.0.0.3:[0-9]* 10.0.0.$last:81 10.0.0.4:81" \
        "TCP [0-9:]* \(NONE\|ASSURED\) 10.0.0.3:0 10.0.0.$last:81 10.0.0.4:81" \
        "UDP [0-9:]* UDP 10.0.0.3:[0-9]* 10.0.0.$last:53 10.0.0.4:53" \
        "TCP [0-9:]* ESTABLISHED \[fd00::3\]:[0-9]* \[fd00::$last\]:80 \[fd00::4\]:80"; do
        wait_for "$knows to know $state" listed "$to" "$state"
    done
    give "$host_to" "$host_from" "$last"
    say five six
    exec 9>&-
    echo "connections went from $host_from to $host_to: $(grep -c . /tmp/heard) answers"
}

# The other one has no such connection of its own: what is not told ends.
theirs --start-daemon master --mcast-interface eth0 --syncid 7
ours --start-daemon backup --mcast-interface eth0 --syncid 7
move theirs ours 101 Pointsman k p
theirs --start-daemon backup --mcast-interface eth0 --syncid 9
ours --start-daemon master --mcast-interface eth0 --syncid 9
move ours theirs 102 "the kernel" p k
at k grep -q ' SYNC ' /proc/net/ip_vs_conn_sync || fail "the kernel does not say that it was told"
echo "done"
