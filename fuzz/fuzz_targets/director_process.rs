//! Any frames, one after the other, pass the director without a panic: what it passes is
//! unchanged, and when every connection is over nothing is left of them.
#![no_main]

use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use pointsman_director::{
    Action, Scratch,
    control::Director,
    expiry::expire,
    native::{
        NativeEnv, NativeFrame, NativeTables,
        services::{CAPACITY, configure, link},
    },
    process::process,
    record::{ConnectionRecord, FlowKey},
    tables::Tables,
};

const IFINDEX: u32 = 1;
const SECOND: u64 = 1_000_000_000;

struct World {
    tables: NativeTables,
    director: Director,
    env: NativeEnv,
}

impl World {
    fn new() -> Self {
        let mut tables = NativeTables::new(CAPACITY);
        let director = configure(&mut tables, IFINDEX).expect("the configuration is valid");
        tables.links.insert(IFINDEX, link());
        let env = NativeEnv::default();
        env.now.set(SECOND);
        Self {
            tables,
            director,
            env,
        }
    }

    fn send(&self, bytes: &[u8]) {
        self.env.now.set(self.env.now.get() + SECOND / 2);
        let mut frame = NativeFrame::new(bytes.to_vec(), IFINDEX);
        let verdict = process(&mut frame, &self.tables, &self.env, &mut Scratch::default());
        match verdict.action() {
            Action::Pass => assert_eq!(frame.bytes, bytes, "{:?}", verdict.reason),
            Action::Forward => assert_ne!(verdict.ifindex, 0),
            Action::Drop => {}
        }
    }

    /// Lets all connections end; they take their counts and reply entries with them.
    fn end(&self) {
        self.env.now.set(self.env.now.get() + 86_400 * SECOND);
        let mut connections: Vec<(FlowKey, Rc<ConnectionRecord>)> = {
            let connections = self.tables.connections.borrow();
            connections.iter().map(|(k, c)| (*k, c.clone())).collect()
        };
        // A template whose connections are not over lives on.
        connections.sort_by_key(|(_, connection)| connection.is_template());
        for (key, connection) in connections {
            let now = self.env.now.get();
            let flags = self.tables.settings.flags;
            assert!(expire(
                &self.tables,
                &self.env,
                flags,
                &key,
                &connection,
                now
            ));
        }
        assert!(self.tables.connections.borrow().is_empty());
        assert!(self.tables.replies.borrow().is_empty());
        for service in self.director.services() {
            for server in service.servers() {
                let counts = self.tables.counts(server.index()).expect("in range");
                assert_eq!((counts.active.load(), counts.inactive.load()), (0, 0));
                assert_eq!(counts.persistent.load(), 0);
                assert_eq!(counts.flags.load(), 0, "overloaded by nothing");
            }
        }
        // The next input starts where this one did.
        for index in 0..CAPACITY.services {
            let state = self.tables.scheduler_state(index).expect("in range");
            state.0.store(0);
        }
        self.env.now.set(SECOND);
    }
}

thread_local! {
    static WORLD: World = World::new();
}

fuzz_target!(|bytes: &[u8]| {
    WORLD.with(|world| {
        let mut rest = bytes;
        while let [low, high, frames @ ..] = rest {
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(frames.len());
            let (frame, others) = frames.split_at(length);
            world.send(frame);
            rest = others;
        }
        world.end();
    });
});
