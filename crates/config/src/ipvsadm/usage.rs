//! What `-h` and `-v` print.

/// The line of `-v`; scripts look for its words.
pub const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)";

/// The text of `-h`, after the version line.
pub const TEXT: &str = "\
Usage: ipvsadm COMMAND [OPTION]...

Virtual services:
  -A, --add-service SERVICE [-s SCHEDULER] [-b FLAGS] [-p [SECONDS]] [-M NETMASK] [--pe ENGINE] [-o]
  -E, --edit-service SERVICE ...    like -A; whatever is not given gets its default
  -D, --delete-service SERVICE
  -C, --clear                       delete every service
Real servers:
  -a, --add-server SERVICE -r SERVER [-g|-i|-m] [-w WEIGHT] [-x UPPER] [-y LOWER] [TUNNEL]
  -e, --edit-server SERVICE -r SERVER ...
  -d, --delete-server SERVICE -r SERVER
Looking:
  -L, -l, --list [SERVICE] [-n] [--stats|--rate|--thresholds|--persistent-conn|--tun-info]
                 [-X|--exact] [--nosort]
  -L -c [-n]                        connections
  -L --timeout                      timeouts
  -L --daemon                       sync daemons
Everything else:
  -Z, --zero [SERVICE]              zero counters
  -S, --save [-n]                   print the configuration as commands
  -R, --restore                     read commands from standard input
  --set TCP TCPFIN UDP              set timeouts, seconds; 0 keeps one
  --start-daemon master|backup [--mcast-interface IF] [--syncid ID] [--sync-maxlen BYTES]
                 [--mcast-group ADDRESS] [--mcast-port PORT] [--mcast-ttl TTL]
  --stop-daemon master|backup [--syncid ID]
  -h, --help    -v, --version

SERVICE is one of
  -t, --tcp-service HOST[:PORT]     -u, --udp-service HOST[:PORT]
  --sctp-service HOST[:PORT]        -f, --fwmark-service MARK [-6]
SERVER is
  -r, --real-server HOST[:PORT]     the port is the service's when not given
How a server is reached:
  -g, --gatewaying                  direct routing (default)
  -i, --ipip                        tunnel
  -m, --masquerading                network address translation
TUNNEL, with -i only:
  --tun-type ipip|gue|gre           ipip when not given
  --tun-port PORT                   gue only, and needed there
  --tun-nocsum | --tun-csum | --tun-remcsum
Defaults: -s wlc, -p 360, -w 1, -x 0 (no limit), -y 0.
IPv6 addresses that a port follows stand in brackets: [fd00::1]:80.
";
