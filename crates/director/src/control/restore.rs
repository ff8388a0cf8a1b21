//! Taking over records that another daemon left: the reverse of writing them.

use std::{collections::HashMap, net::IpAddr};

use super::{
    Capacity, Director, Mirror, MirrorError, Server, Service, subtract, sum, words_address,
};
use crate::{
    estimate::Estimate,
    model::{
        ForwardingMethod, Persistence, Protocol, RealServer, SchedulerFlags, ServiceId, TunnelType,
        VirtualService,
    },
    record::{
        MarkRuleRecord, NONE, ServerRecord, ServerStats, ServiceKey, ServiceRecord, Settings,
        SlotLine, method, server_flag, service_flag,
    },
    schedule::Scheduler,
};

/// Records read back from where a [`Mirror`] writes them.
#[derive(Debug, Default)]
pub struct Records {
    /// Virtual services.
    pub services: Vec<(ServiceKey, ServiceRecord)>,
    /// Real servers in use, by index.
    pub servers: Vec<(u32, ServerRecord)>,
    /// All lines of slots.
    pub slots: Vec<SlotLine>,
    /// All records of rules that make firewall marks.
    pub mark_rules: Vec<MarkRuleRecord>,
    /// What holds for every service.
    pub settings: Settings,
}

impl Director {
    /// The director whose mirror holds `records`. Servers that no service's slots name (an addition
    /// that was cut short) are removed.
    ///
    /// # Errors
    ///
    /// When records contradict each other, with what does.
    pub fn restore<M: Mirror>(
        capacity: Capacity,
        records: &Records,
        mirror: &mut M,
    ) -> Result<Self, MirrorError> {
        // What was counted before is no traffic of the first two seconds.
        let mut counted = HashMap::with_capacity(records.servers.len());
        for (index, _) in records
            .servers
            .iter()
            .filter(|(index, _)| *index < capacity.servers)
        {
            counted.insert(*index, mirror.stats(*index)?);
        }
        let mut director = Self::new(capacity, records.settings);
        director.restore_marks(&records.mark_rules)?;
        let mut servers: HashMap<u32, ServerRecord> = records.servers.iter().copied().collect();
        for (key, record) in &records.services {
            director.restore_service(key, record, &records.slots, &mut servers, &counted)?;
        }
        let mut rest: Vec<_> = servers.into_iter().collect();
        rest.sort_by_key(|(index, _)| *index);
        for (index, record) in rest {
            let id = service_id(&record.key).ok_or_else(|| odd("real server", index, "service"))?;
            director.claim_server(index)?;
            director.owners.insert(index, id);
            director.sequence = director.sequence.max(record.sequence);
            let config = real_server(&record);
            let server = Server {
                index,
                config,
                record,
                zero: ServerStats::default(),
                estimate: Estimate::at(counted.get(&index).copied().unwrap_or_default()),
            };
            super::servers::withdraw(&server, mirror)?;
            director.bury(id, server);
        }
        director.restore_localities(mirror)?;
        Ok(director)
    }

    fn restore_service(
        &mut self,
        key: &ServiceKey,
        record: &ServiceRecord,
        slots: &[SlotLine],
        servers: &mut HashMap<u32, ServerRecord>,
        counted: &HashMap<u32, ServerStats>,
    ) -> Result<(), MirrorError> {
        let config = virtual_service(key, record)
            .ok_or_else(|| odd("virtual service", record.id, "scheduler or protocol"))?;
        let first = record.slots as usize;
        let lines = slots
            .get(first..first + record.slot_lines as usize)
            .ok_or_else(|| odd("virtual service", record.id, "slots"))?;
        let indices: Vec<u32> = lines
            .iter()
            .flatten()
            .map(|slot| slot.server)
            .take(record.count as usize)
            .filter(|server| *server != NONE)
            .collect();
        if indices.len() != record.count as usize {
            return Err(odd("virtual service", record.id, "count"));
        }
        let claimed = self.service_indices.claim(record.id, 1)
            && self.slot_lines.claim(record.slots, record.slot_lines)
            && self.table_lines.claim(record.table, record.table_lines);
        if !claimed {
            return Err(odd(
                "virtual service",
                record.id,
                "place, which another one has",
            ));
        }
        let mut list = Vec::with_capacity(indices.len());
        let mut total = ServerStats::default();
        for index in indices {
            let server = servers
                .remove(&index)
                .ok_or_else(|| odd("virtual service", record.id, "real server"))?;
            self.claim_server(index)?;
            self.owners.insert(index, config.id);
            self.sequence = self.sequence.max(server.sequence);
            let counted = counted.get(&index).copied().unwrap_or_default();
            total = sum(total, counted);
            list.push(Server {
                index,
                config: real_server(&server),
                record: server,
                zero: ServerStats::default(),
                estimate: Estimate::at(counted),
            });
        }
        self.services.insert(
            config.id,
            Service {
                config,
                key: *key,
                record: *record,
                servers: list,
                past: ServerStats::default(),
                ever: subtract(ServerStats::default(), total),
                estimate: Estimate::at(total),
            },
        );
        Ok(())
    }

    fn claim_server(&mut self, index: u32) -> Result<(), MirrorError> {
        if self.server_indices.claim(index, 1) {
            Ok(())
        } else {
            Err(odd("real server", index, "index, which another one has"))
        }
    }

    /// Removed servers that still have connections.
    pub fn removed(&self) -> impl Iterator<Item = (ServiceId, u32)> {
        self.removed
            .iter()
            .map(|removed| (removed.id, removed.server.index))
    }
}

fn odd(what: &str, index: u32, field: &str) -> MirrorError {
    MirrorError(format!("{what} {index} has an impossible {field}"))
}

fn service_id(key: &ServiceKey) -> Option<ServiceId> {
    let ipv6 = key.ipv6 != 0;
    if key.protocol == 0 {
        return Some(ServiceId::Mark {
            mark: key.address[0],
            ipv6,
        });
    }
    Some(ServiceId::Address {
        protocol: Protocol::from_number(key.protocol)?,
        address: words_address(&key.address, ipv6),
        port: u16::from_be(key.port),
    })
}

fn virtual_service(key: &ServiceKey, record: &ServiceRecord) -> Option<VirtualService> {
    let scheduler = Scheduler::ALL
        .iter()
        .find(|s| **s as u8 == record.scheduler)?;
    let persistence = (record.flags & service_flag::PERSISTENT != 0).then(|| Persistence {
        timeout: record.persistence,
        prefix: record.prefix as u8,
        netmask: u32::from_be(record.netmask),
    });
    Some(VirtualService {
        id: service_id(key)?,
        scheduler: scheduler.name().to_owned(),
        flags: SchedulerFlags {
            flag1: record.flags & service_flag::SCHED1 != 0,
            flag2: record.flags & service_flag::SCHED2 != 0,
            flag3: record.flags & service_flag::SCHED3 != 0,
        },
        persistence,
        one_packet: record.flags & service_flag::ONE_PACKET != 0,
        engine: None,
    })
}

fn real_server(record: &ServerRecord) -> RealServer {
    let address: IpAddr = words_address(&record.address, record.flags & server_flag::IPV6 != 0);
    RealServer {
        address,
        port: u16::from_be(record.port),
        method: match record.method {
            method::MASQUERADE => ForwardingMethod::Masquerade,
            method::TUNNEL => ForwardingMethod::Tunnel,
            _ => ForwardingMethod::Direct,
        },
        weight: record.weight,
        upper: record.upper,
        lower: record.lower,
        tunnel: TunnelType::Ipip,
    }
}
