//! Many changes at once: servers that are added to a service one behind the other are written together.

use std::{collections::HashSet, net::IpAddr};

use super::{Director, MAX_SERVERS, Mirror, Server, check::check_server, full, plan};
use crate::{
    estimate::Estimate,
    model::{Change, ControlError, RealServer, ServiceId},
    record::{ServerRecord, ServerStats},
};

/// Servers that a service has not and never had.
struct Run {
    id: ServiceId,
    servers: Vec<RealServer>,
}

impl Director {
    /// Carries `changes` out in their order, as [`Director::apply`] would each. `refused` is told which
    /// were refused and why; when it returns false the rest is left.
    pub fn apply_all<M: Mirror>(
        &mut self,
        changes: &[Change],
        mirror: &mut M,
        mut refused: impl FnMut(usize, ControlError) -> bool,
    ) {
        let mut at = 0;
        while at < changes.len() {
            let run = self.run(&changes[at..]);
            let length = run.as_ref().map_or(0, |run| run.servers.len());
            if let Some(run) = run
                && length > 1
                && self.add_run(run, mirror).is_ok()
            {
                at += length;
                continue;
            }
            // What did not go together says more exactly why not, one by one.
            for (index, change) in changes.iter().enumerate().skip(at).take(length.max(1)) {
                if let Err(error) = self.apply(change, mirror)
                    && !refused(index, error)
                {
                    return;
                }
                at = index + 1;
            }
        }
    }

    /// The servers that the first of `changes` add to one service, as far as nothing is special about
    /// them.
    fn run(&self, changes: &[Change]) -> Option<Run> {
        let Some(Change::AddServer { id, .. }) = changes.first() else {
            return None;
        };
        let service = self.services.get(id)?;
        let present = service.servers.iter().map(|server| &server.config);
        let mut places: HashSet<(IpAddr, u16)> = present.map(|c| (c.address, c.port)).collect();
        let mut servers = Vec::new();
        for change in changes {
            let Change::AddServer { id: to, server } = change else {
                break;
            };
            if to != id || places.len() >= MAX_SERVERS {
                break;
            }
            let Ok(server) = check_server(id, server) else {
                break;
            };
            let (address, port) = (server.address, server.port);
            if self.removed.at(id, address, port).is_some() || !places.insert((address, port)) {
                break;
            }
            servers.push(server);
        }
        Some(Run { id: *id, servers })
    }

    /// Adds all servers of a run or none.
    fn add_run<M: Mirror>(&mut self, run: Run, mirror: &mut M) -> Result<(), ControlError> {
        let Run { id, servers } = run;
        let service = self.services.get(&id);
        let mut edited = service.ok_or(ControlError::ServiceNotDefined)?.clone();
        let old = edited.record;
        let state = mirror.scheduler_state(old.id)?;
        let count = servers.len() as u32;
        let first = self.server_indices.take(count);
        let first = first.ok_or_else(|| full("real servers", "--servers"))?;
        let mut sequence = self.sequence;
        let mut records = Vec::with_capacity(servers.len());
        for (index, config) in (first..).zip(servers) {
            sequence = sequence.wrapping_add(1);
            let record = plan::server_record(&config, &edited, sequence);
            records.push(record);
            let server = Server {
                index,
                config,
                record,
                zero: ServerStats::default(),
                estimate: Estimate::default(),
            };
            edited.servers.insert(0, server);
            plan::restart(&mut edited, state, plan::Cause::Added);
        }
        let written = match mirror.add_servers(first, &records) {
            Ok(()) => self.write_plan(edited, &old, mirror),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = written {
            for index in first..first + count {
                let _ = mirror.set_server(index, &ServerRecord::default());
            }
            self.server_indices.give(first, count);
            return Err(error);
        }
        self.owners
            .extend((first..first + count).map(|index| (index, id)));
        self.sequence = sequence;
        Ok(())
    }
}
