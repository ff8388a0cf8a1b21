//! The daemon's life: opened or taken over, attached, kept true, stopped.

mod availability;
mod defence;
mod expiry;
mod interfaces;
mod metrics;
mod packets;
mod pulse;
mod rates;
mod state;
mod ways;

use std::{
    fs::File,
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use pointsman_datapath::{Datapath, DetachReport, Options, Origin};
use pointsman_director::{
    control::Director,
    record::{Settings, settings_flag},
};
use pointsman_linux::netlink::{Monitor, Netlink};
use tokio::{
    net::UnixListener,
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, watch},
    task::{JoinSet, block_in_place},
};

use pulse::Pulse;
use state::{Kept, Saver};

use crate::{
    api::{self, Facts, Shell},
    availability::{Plan, Resumption},
    balancer::Balancer,
    bfd::BfdBoard,
    config::{Config, neighbours_file, routers_file},
    health::Wards,
    hops::{Keeper, Neighbours},
    rounds::Rounds,
    settings::RunningSettings,
    socket::{self, Socket},
    status::{InterfaceStatus, origin_name},
    sync::{self, Owner, Synchronisation},
    vrrp::Board,
};

/// Runs the daemon until SIGTERM or SIGINT.
///
/// The line `ready: ...` on stdout, and `READY=1` to the service manager, say that everything is in
/// place. Stopped, it detaches and leaves the host as it was, unless [`Config::keep`] says that
/// forwarding goes on.
pub fn run(config: &Config) -> Result<()> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting threads")?;
    runtime.block_on(serve(config))
}

async fn serve(config: &Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    // What is wrong with the configuration is told before anything is done.
    let plan = config
        .availability
        .as_ref()
        .map(availability::plan)
        .transpose()?;
    let (socket, listener) = Socket::listen(&config.socket)?;
    let metrics = metrics::listen(config.metrics).await?;
    // What a daemon before left is not touched by one that can't go on with it.
    Datapath::check(&config.datapath.pin_dir)?;
    // Before programs are loaded, which takes its time.
    let left = routers_file(&config.socket);
    let forwards = config.datapath.pin_dir.exists();
    let resumed = match &plan {
        Some(plan) => Resumption::new(plan, &left, forwards)?,
        None => Resumption::default(),
    };
    let opened = Opened::new(config)?;
    let routers = (plan, resumed, hangup);
    let outcome = opened.serve(config, (listener, metrics), routers, async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    });
    let result = outcome.await;
    drop(socket);
    result
}

/// Where the API listens, and where metrics are asked for, if on TCP.
type Listeners = (
    std::os::unix::net::UnixListener,
    Option<tokio::net::TcpListener>,
);

/// The data plane, opened, and what has to be undone if the start fails.
struct Opened {
    datapath: Datapath,
    director: Director,
    settings: RunningSettings,
    kept: Kept,
    origin: Origin,
    lock: Flock<File>,
}

impl Opened {
    fn new(config: &Config) -> Result<Self> {
        let pin_dir = &config.datapath.pin_dir;
        let mut kept = Kept::load(config.state.as_deref())?;
        let (mut datapath, origin) = open(&config.datapath)?;
        // From here on a failure must not leave fresh pins behind.
        let mut opened = || -> Result<_> {
            let lock = lock_pins(pin_dir)?;
            let mut director = director(config, &datapath, origin)?;
            kept.restore(&mut director, &datapath, origin)?;
            let settings = RunningSettings::new(kept.saved.settings.clone(), &config.settings)?;
            configure(&mut director, &settings, &datapath)?;
            let interfaces = interfaces::choose(&config.interfaces)?;
            datapath.attach(&interfaces, config.hook)?;
            Ok((lock, director, settings))
        };
        match opened() {
            Ok((lock, director, settings)) => Ok(Self {
                datapath,
                director,
                settings,
                kept,
                origin,
                lock,
            }),
            Err(error) => {
                if origin == Origin::Fresh {
                    undo(pin_dir);
                }
                Err(error)
            }
        }
    }

    async fn serve(
        self,
        config: &Config,
        listeners: Listeners,
        (plan, resumed, hangup): (Option<Plan>, Resumption, Signal),
        stop: impl Future<Output = &'static str>,
    ) -> Result<()> {
        let pin_dir = &config.datapath.pin_dir;
        let fresh = self.origin == Origin::Fresh;
        let (ask, asks) = mpsc::channel(1);
        let reload = api::reload_router(ask);
        let boards = (Arc::clone(&resumed.board), Arc::clone(&resumed.bfd_board));
        let started = self.start(config, listeners, (boards, reload));
        let (tasks, keeper) = match started {
            Ok(started) => started,
            Err(error) => {
                if fresh {
                    undo(pin_dir);
                }
                return Err(error);
            }
        };
        let shell = Arc::clone(&tasks.shell);
        let left = routers_file(&config.socket);
        let work = match availability::begin(plan, shell, left, resumed).await {
            Ok(work) => work,
            Err(error) => {
                let keeper = tasks.stop(keeper).await;
                if let Some(keeper) = keeper.filter(|_| fresh) {
                    keeper.release();
                    undo(pin_dir);
                }
                return Err(error);
            }
        };
        tasks.say_ready();
        pulse::ready(tasks.ready.trim_start_matches("ready: "));
        let pulse = Pulse::new(Arc::clone(&tasks.shell));
        let (signal, mut work) =
            availability::obey(config, work, (hangup, asks), pulse, stop).await;
        pulse::stopping();
        match &mut work {
            Some(work) if config.keep => work.rest().await,
            Some(work) => work.stop().await,
            None => {}
        }
        let keeper = tasks.stop(keeper).await;
        if config.keep {
            // Last, for others wait for advertisements from here on.
            if let Some(work) = work {
                work.leave().await;
            }
            tracing::info!(signal, "stopped; forwarding goes on");
            return Ok(());
        }
        if let Some(keeper) = keeper {
            keeper.release();
        }
        let report = Datapath::detach(pin_dir).context("detaching")?;
        tracing::info!(signal, links = report.links.len(), "stopped and detached");
        Ok(())
    }

    fn start(
        self,
        config: &Config,
        (listener, metrics): Listeners,
        ((routers, sessions), reload): ((Board, BfdBoard), axum::Router),
    ) -> Result<(Tasks, tokio::task::JoinHandle<Keeper>)> {
        let events = self.datapath.event_descriptor();
        let attachments = self.datapath.attachments().to_vec();
        for attachment in &attachments {
            println!(
                "{}: {} ({})",
                attachment.interface, attachment.hook, attachment.why
            );
        }
        let facts = Facts {
            started: Instant::now(),
            origin: origin_name(self.origin),
            pin_dir: config.datapath.pin_dir.display().to_string(),
            interfaces: attachments.iter().map(InterfaceStatus::from).collect(),
            connection_room: self.datapath.connection_room(),
        };
        // Changes from here on are seen, so what is read afterwards can't be outdated unnoticed.
        let monitor = Monitor::new().context("watching routes and neighbours")?;
        let attached = attachments.iter().map(|a| a.ifindex).collect();
        let mut keeper = Keeper::new(&neighbours_file(&config.socket), attached)?;
        let asked = self.kept.saved.sync.clone();
        let (saver, report) = self.kept.saver(&self.datapath)?;
        let shell = Arc::new(Shell {
            balancer: Balancer::new(self.director, self.settings, self.datapath),
            facts,
            answers: Mutex::default(),
            rounds: Rounds::default(),
            state: Mutex::new(report),
            routers,
            wards: Wards::default(),
            sync: Synchronisation::default(),
            sessions,
        });
        // What the ledger says was counted before is no traffic of the first two seconds.
        shell.balancer.estimate(true)?;
        shell.balancer.unsaved.notify_one();
        keeper.update(&shell.balancer);
        for request in asked {
            let (role, interface) = (request.role.name(), request.interface.clone());
            if let Err(error) = sync::start(&shell, request, Owner::Operator) {
                tracing::error!(%error, interface, "can't start the {role} sync daemon again");
            }
        }
        let listener = UnixListener::from_std(listener).context("listening")?;
        let unresolved = Arc::new(Notify::new());
        let (stop, stopped) = watch::channel(());
        let router = api::router(Arc::clone(&shell)).merge(reload);
        let mut tasks = JoinSet::new();
        let until = stopped.clone();
        tasks.spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router) => {
                    if let Err(error) = served {
                        tracing::error!(%error, "the API stopped");
                    }
                }
                () = ended(until) => {}
            }
        });
        tasks.spawn(expiry::keep(Arc::clone(&shell), stopped.clone()));
        let saver = saver.map(Arc::new);
        if let Some(saver) = &saver {
            tasks.spawn(Arc::clone(saver).keep(Arc::clone(&shell), stopped.clone()));
        }
        tasks.spawn(defence::keep(Arc::clone(&shell), stopped.clone()));
        tasks.spawn(rates::keep(Arc::clone(&shell), stopped.clone()));
        if let Some(listener) = metrics {
            let address = listener.local_addr().context("listening for metrics")?;
            println!("metrics: http://{address}/metrics");
            tasks.spawn(metrics::serve(
                listener,
                Arc::clone(&shell),
                stopped.clone(),
            ));
        }
        let events = packets::Packets::new(events, Arc::clone(&shell), Arc::clone(&unresolved))?;
        tasks.spawn(events.answer(stopped.clone()));
        let ways = ways::Ways::new(monitor, keeper, Arc::clone(&shell), unresolved)?;
        let keeper = tokio::spawn(ways.keep(stopped));
        let ready = format!(
            "ready: API on {}, {} interface{}, {}",
            config.socket.display(),
            attachments.len(),
            if attachments.len() == 1 { "" } else { "s" },
            match self.origin {
                Origin::Fresh => "a fresh start",
                Origin::TakenOver => "services and connections taken over",
            }
        );
        let tasks = Tasks {
            tasks,
            stop,
            saver,
            shell,
            ready,
            _lock: self.lock,
        };
        Ok((tasks, keeper))
    }
}

/// Completes when the daemon stops.
async fn ended(mut stopped: watch::Receiver<()>) {
    // Either news or the sender's end.
    let _ = stopped.changed().await;
}

/// What runs beside each other.
struct Tasks {
    tasks: JoinSet<()>,
    stop: watch::Sender<()>,
    saver: Option<Arc<Saver>>,
    shell: Arc<Shell<Datapath>>,
    /// What is said when everything is in place.
    ready: String,
    /// On the pins, until all of them have ended.
    _lock: Flock<File>,
}

impl Tasks {
    fn say_ready(&self) {
        println!("{}", self.ready);
    }

    async fn stop(mut self, keeper: tokio::task::JoinHandle<Keeper>) -> Option<Keeper> {
        drop(self.stop);
        sync::stop_all(&self.shell).await;
        while self.tasks.join_next().await.is_some() {}
        if let Some(saver) = self.saver {
            // Nobody changes anything any more.
            block_in_place(|| saver.save(&self.shell));
        }
        keeper.await.ok()
    }
}

fn director(config: &Config, datapath: &Datapath, origin: Origin) -> Result<Director> {
    let capacity = datapath.capacity();
    let mut mirror = datapath.mirror();
    Ok(match origin {
        Origin::Fresh => Director::new(capacity, Settings::DEFAULT),
        Origin::TakenOver => {
            if capacity != config.datapath.capacity
                || datapath.connection_room() != config.datapath.connections
            {
                tracing::warn!(
                    "the tables taken over keep their sizes; `pointsman detach` first to change them"
                );
            }
            Director::restore(capacity, &datapath.records()?, &mut mirror)
                .context("taking over what is pinned; `pointsman detach` starts afresh")?
        }
    })
}

/// Says in the records what holds, and that they are whole.
fn configure(
    director: &mut Director,
    settings: &RunningSettings,
    datapath: &Datapath,
) -> Result<()> {
    let mut record = settings.values().apply(*director.settings());
    record.flags |= settings_flag::CONFIGURED;
    Ok(director.set_settings(record, &mut datapath.mirror())?)
}

/// Opens the data plane. What a daemon left pinned that died before it had written all that it was to
/// begin with is not taken over.
fn open(options: &Options) -> Result<(Datapath, Origin)> {
    let (datapath, origin) = Datapath::open(options)?;
    if origin == Origin::Fresh || datapath.settings()?.flags & settings_flag::CONFIGURED != 0 {
        return Ok((datapath, origin));
    }
    let _lock = lock_pins(&options.pin_dir)?;
    tracing::warn!("the daemon before did not get ready: starting afresh");
    drop(datapath);
    Datapath::detach(&options.pin_dir).context("removing what a cut short start left")?;
    Ok(Datapath::open(options)?)
}

/// Makes sure that no other daemon works with these pins.
fn lock_pins(pin_dir: &Path) -> Result<Flock<File>> {
    let directory =
        File::open(pin_dir).with_context(|| format!("opening {}", pin_dir.display()))?;
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!(
            "another pointsman works with {}; stop it, or choose another --pin-dir",
            pin_dir.display()
        ),
        Err((_, errno)) => Err(errno).with_context(|| format!("locking {}", pin_dir.display())),
    }
}

fn undo(pin_dir: &Path) {
    if let Err(error) = Datapath::detach(pin_dir) {
        tracing::error!(%error, "can't undo the start; run `pointsman detach`");
    }
}

/// What [`detach`] removed.
#[derive(Debug)]
pub struct Detached {
    /// Links, qdiscs and maps.
    pub datapath: DetachReport,
    /// Managed neighbours.
    pub neighbours: usize,
    /// Virtual addresses of virtual routers that were left.
    pub addresses: usize,
}

/// Gives back virtual addresses that a daemon left, which others take over; forwarding goes on. Says how many.
pub fn give_back_addresses(socket: &Path) -> Result<usize> {
    let _lock = lock_socket(socket)?;
    Ok(crate::availability::release(&routers_file(socket)))
}

/// Takes note that a daemon was killed or crashed this very moment: the next one goes on where it was, if it
/// begins before others take it for down.
pub fn note_sudden_end(socket: &Path) -> Result<()> {
    let _lock = lock_socket(socket)?;
    crate::availability::note_sudden_end(&routers_file(socket));
    Ok(())
}

/// Makes sure that no daemon listens.
fn lock_socket(socket: &Path) -> Result<Option<socket::Lock>> {
    let file = socket::lock_file(socket);
    if !file.exists() {
        return Ok(None);
    }
    let lock = socket::lock(&file)?;
    let lock =
        lock.with_context(|| format!("a daemon runs on {}; stop it first", socket.display()))?;
    Ok(Some(lock))
}

/// Removes what a daemon left that was killed or stopped with [`Config::keep`].
pub fn detach(pin_dir: &Path, socket: &Path) -> Result<Detached> {
    let _socket_lock = lock_socket(socket)?;
    let _pins_lock = match pin_dir.exists() {
        true => Some(lock_pins(pin_dir)?),
        false => None,
    };
    let mut netlink = Netlink::new()?;
    let neighbours = Neighbours::load(&neighbours_file(socket));
    let (neighbours, errors) = neighbours.release_all(&mut netlink);
    for error in errors {
        tracing::warn!(%error, "can't give a neighbour back");
    }
    let addresses = crate::availability::release(&routers_file(socket));
    let datapath = Datapath::detach(pin_dir)?;
    if socket.exists() {
        let _ = std::fs::remove_file(socket);
    }
    Ok(Detached {
        datapath,
        neighbours,
        addresses,
    })
}
