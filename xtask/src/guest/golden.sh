# Runs the commands of a golden file in a namespace of its own and prints the file anew on standard
# output, with what they say now. Argument: the file.
set -f
file=$1
: >/tmp/input
command=

# What the last command met says, after all of its input is known.
finish() {
    [ -n "$command" ] || return 0
    printf '$ %s\n' "$command"
    sed 's/^/< /' /tmp/input
    obey $command </tmp/input >/tmp/out 2>/tmp/err
    code=$?
    sed 's/^/| /' /tmp/out
    sed 's/^/! /' /tmp/err
    [ $code = 0 ] || printf '= %d\n' $code
    command=
    : >/tmp/input
}

obey() {
    case $1 in
    send) send "$2" "$3" ;;
    # The kernel adds its counters up every two seconds.
    wait) sleep "$2" ;;
    ipvsadm | ipvsadm-save | ipvsadm-restore | ip) "$@" ;;
    *) echo "golden: $1 is no command of golden files"; exit 1 ;;
    esac
}

# One datagram of two bytes from a port of the server's namespace to an endpoint.
send() {
    to=${2%:*}
    to=${to#\[}
    ip netns exec server sh -c 'echo "$0 $0" >/proc/sys/net/ipv4/ip_local_port_range
        exec bash -c "echo x >/dev/udp/$1/$2"' "$1" "${to%]}" "${2##*:}"
}

while IFS= read -r line; do
    case $line in
    '$ '*)
        finish
        command=${line#??}
        ;;
    '<') echo >>/tmp/input ;;
    '< '*) printf '%s\n' "${line#??}" >>/tmp/input ;;
    '| '* | '! '* | '= '* | '|' | '!') ;;
    *)
        finish
        printf '%s\n' "$line"
        ;;
    esac
done <"$file"
finish
