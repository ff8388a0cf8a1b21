//! Masters that accept nothing at their addresses (`no_accept`).
//!
//! The kernel's input is filtered, and its output; the director has taken what it balances before.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use pointsman_linux::netlink::RefusalTable;

/// The rules of masters that accept nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalConfig {
    /// Name of the tables of nftables.
    pub table: String,
    /// Priority of their chains.
    pub priority: i32,
    /// True when rules count what they drop.
    pub counts: bool,
}

impl Default for RefusalConfig {
    fn default() -> Self {
        Self {
            table: "pointsman_vrrp".to_owned(),
            priority: -1,
            counts: false,
        }
    }
}

/// The addresses that are refused, in force.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    config: RefusalConfig,
    table: Option<RefusalTable>,
    refused: BTreeSet<(u32, IpAddr)>,
    /// An earlier daemon's rules are in force.
    inherited: bool,
}

impl Refusals {
    /// Those of a configuration; with `keep` what an earlier daemon left stays in force until
    /// [`Self::settle`].
    pub(super) fn new(config: RefusalConfig, keep: bool) -> Self {
        let kept = keep.then_some(config.table.as_str());
        match RefusalTable::sweep(kept) {
            Ok(0) => {}
            Ok(count) => {
                tracing::warn!("took away {count} tables of nftables that were left behind")
            }
            // A kernel without nftables has none.
            Err(error) => tracing::debug!(%error, "can't look for tables of nftables"),
        }
        Self {
            config,
            inherited: keep,
            ..Self::default()
        }
    }

    /// Has another configuration from now on; what is refused is so by the new one before it is not by
    /// the old.
    pub(super) fn set_config(&mut self, config: RefusalConfig) -> Result<()> {
        if self.config == config {
            return Ok(());
        }
        let renamed = self.config.table != config.table;
        self.config = config;
        let old = self.table.take();
        let refused = std::mem::take(&mut self.refused);
        self.settle(refused)?;
        if let (Some(mut old), true) = (old, renamed) {
            old.set(&BTreeSet::new())?;
        }
        Ok(())
    }

    /// Refuses these too: before the host has them.
    pub(super) fn add(&mut self, more: &[(u32, IpAddr)]) -> Result<()> {
        if more.iter().all(|one| self.refused.contains(one)) {
            return Ok(());
        }
        let mut refused = self.refused.clone();
        refused.extend(more);
        self.settle(refused)
    }

    /// Refuses these and no others.
    pub(super) fn settle(&mut self, refused: BTreeSet<(u32, IpAddr)>) -> Result<()> {
        if self.refused == refused && !self.inherited {
            return Ok(());
        }
        let table = match &mut self.table {
            Some(table) => table,
            None => {
                let RefusalConfig {
                    table,
                    priority,
                    counts,
                } = &self.config;
                let opened = RefusalTable::open(table, *priority, *counts);
                self.table.insert(opened.context("using nftables")?)
            }
        };
        match table.set(&refused) {
            Ok(()) => {
                self.refused = refused;
                self.inherited = false;
            }
            Err(error) if error.errno() == Some(nix::libc::EEXIST) => bail!(
                "a table {} is there and is not Pointsman's; name another one by `nftables`",
                table.name()
            ),
            Err(error) => return Err(error).context("filtering what comes to virtual addresses"),
        }
        Ok(())
    }

    /// True while something is refused.
    pub(super) fn is_any(&self) -> bool {
        !self.refused.is_empty()
    }
}
