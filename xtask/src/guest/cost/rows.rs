//! The list of what is measured.

use anyhow::{Context, Result, bail};

/// Where a row's director takes the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Nothing is forwarded: what all rows are compared with.
    Drop,
    /// XDP sends every frame back.
    Reflect,
    /// XDP sends every frame to the second wire.
    Redirect,
    /// XDP passes every frame up; the kernel, or a tc program, forwards to the dummy device.
    Stack,
    /// The row's command attaches its own XDP program, which forwards to the second wire.
    Xdp,
    /// The same, but the real server is reached through the wire the frames came from.
    XdpTransmit,
}

/// What the generator sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// From the client to the real server itself.
    Plain,
    /// From the client to the virtual service.
    Requests,
    /// From a masqueraded real server to the client.
    Replies,
    /// A protocol the kernel has no handler for.
    Unknown,
}

/// One director to measure.
///
/// `setup` is run by `sh -e` in the director's namespace, which has the virtual address on `lo`,
/// forwarding on, permanent neighbours and a bpffs of its own, and stays until the row is
/// measured, with all processes started there. It gets the variables `VIP`, `PORT`, `REAL` (the
/// real server to forward to), `INPUT` and `OUTPUT` (the devices).
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) hook: Hook,
    pub(crate) setup: String,
    pub(crate) traffic: Traffic,
    /// Every frame is the SYN of another connection.
    pub(crate) new_flows: bool,
}

impl Row {
    pub(crate) fn new(name: &str, hook: Hook, setup: &str) -> Self {
        let (name, setup) = (name.to_owned(), setup.to_owned());
        Self {
            name,
            hook,
            setup,
            traffic: Traffic::Requests,
            new_flows: false,
        }
    }

    /// Reads `NAME,HOOK,COMMAND`; a NAME ending in "new flows" gets a SYN per connection.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, ',');
        let mut part = || parts.next().context("--row takes NAME,HOOK,COMMAND");
        let (name, hook, setup) = (part()?, part()?, part()?);
        let hook = match hook {
            "stack" => Hook::Stack,
            "xdp" => Hook::Xdp,
            "xdp-tx" => Hook::XdpTransmit,
            _ => bail!("the hook of --row is `stack`, `xdp` or `xdp-tx`, not `{hook}`"),
        };
        Ok(Self {
            new_flows: name.ends_with("new flows"),
            ..Self::new(name, hook, setup)
        })
    }
}

/// The yardsticks.
pub(crate) fn kernel_rows() -> Vec<Row> {
    let ip_vs = |method: &str| {
        format!(
            "ipvsadm -A -t $VIP:$PORT -s rr
             ipvsadm -a -t $VIP:$PORT -r $REAL:$PORT {method}"
        )
    };
    let mut rows = vec![
        Row::new("XDP transmit", Hook::Reflect, ""),
        Row::new("XDP redirect", Hook::Redirect, ""),
        Row {
            traffic: Traffic::Unknown,
            ..Row::new("kernel receive, no handler", Hook::Stack, "")
        },
        Row {
            traffic: Traffic::Plain,
            ..Row::new("ip_forward", Hook::Stack, "")
        },
    ];
    for (name, method) in [("direct", "-g"), ("tunnel", "-i"), ("masquerade", "-m")] {
        rows.push(Row::new(
            &format!("ip_vs {name}"),
            Hook::Stack,
            &ip_vs(method),
        ));
    }
    rows.push(Row {
        traffic: Traffic::Replies,
        ..Row::new("ip_vs masquerade reply", Hook::Stack, &ip_vs("-m"))
    });
    for (name, method) in [("direct", "-g"), ("tunnel", "-i"), ("masquerade", "-m")] {
        let name = format!("ip_vs {name}, new flows");
        rows.push(Row {
            new_flows: true,
            ..Row::new(&name, Hook::Stack, &ip_vs(method))
        });
    }
    rows
}

/// Pointsman under XDP: `program` is its path.
pub(crate) fn pointsman_rows(program: &str) -> Vec<Row> {
    let setup = |method: &str| {
        format!(
            "log=$(mktemp)
             '{program}' run --no-state -i $INPUT --hook xdp >$log 2>&1 </dev/null &
             tries=0
             until grep -q ^ready: $log; do
                 tries=$((tries + 1))
                 if [ $tries = 300 ] || ! kill -0 $!; then cat $log >&2; exit 1; fi
                 sleep 0.1
             done
             '{program}' ipvsadm -A -t $VIP:$PORT -s rr
             '{program}' ipvsadm -a -t $VIP:$PORT -r $REAL:$PORT {method}"
        )
    };
    let methods = [("direct", "-g"), ("tunnel", "-i"), ("masquerade", "-m")];
    let mut rows = Vec::new();
    for (hook, way) in [(Hook::Xdp, "redirect"), (Hook::XdpTransmit, "transmit")] {
        for (name, method) in methods {
            let name = format!("pointsman {name}, XDP {way}");
            rows.push(Row::new(&name, hook, &setup(method)));
        }
    }
    for (name, method) in methods {
        let name = format!("pointsman {name}, new flows");
        rows.push(Row {
            new_flows: true,
            ..Row::new(&name, Hook::Xdp, &setup(method))
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_the_commas_of_its_command() {
        let row = Row::parse("ours, new flows").unwrap_err().to_string();
        assert!(row.contains("NAME,HOOK,COMMAND"), "{row}");
        let row = Row::parse("ours new flows,xdp-tx,run --to a,b").unwrap();
        assert_eq!((row.hook, row.new_flows), (Hook::XdpTransmit, true));
        assert_eq!(row.setup, "run --to a,b");
        assert!(Row::parse("ours,xdp").is_err());
    }
}
