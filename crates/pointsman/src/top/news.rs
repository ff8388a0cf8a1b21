//! What `pointsman top` waits for: keys, signals, the daemon. Each has a thread; all arrive at one
//! place.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    thread::{self, JoinHandle},
    time::Instant,
};

use anyhow::{Result, bail};
use nix::sys::signal::{SigHandler, SigSet, Signal, raise, signal};
use pointsman_daemon::client::{Client, ClientError};
use pointsman_director::setting::Setting;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};

use super::list::{Picture, Sorting};

/// Signals that end the program, and must not leave the terminal as it is then.
const ENDING: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// What happened.
pub(super) enum News {
    Key(KeyEvent),
    Resized,
    /// The terminal is gone.
    Gone,
    Signal(Signal),
    Picture(Box<Result<Picture, String>>),
}

/// Asks the daemon; connects again when it has to.
pub(super) struct Asker {
    socket: PathBuf,
    client: Option<Client>,
}

impl Asker {
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            client: None,
        }
    }

    pub(super) fn ask(&mut self) -> Result<Picture, ClientError> {
        let answer = self.try_ask();
        if answer.is_err() {
            self.client = None;
        }
        answer
    }

    fn try_ask(&mut self) -> Result<Picture, ClientError> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Client::connect(&self.socket)?),
        };
        let services = client.services()?;
        let status = client.status()?;
        let settings = client.settings()?;
        let estimating = settings
            .iter()
            .find(|view| view.name == Setting::RunEstimation.name())
            .is_none_or(|view| view.value != 0);
        Ok(Picture::new(
            status,
            estimating,
            services,
            Sorting::default(),
        ))
    }
}

/// Where everything arrives.
pub(super) struct Newsroom {
    news: Receiver<News>,
    questions: SyncSender<()>,
    asker: JoinHandle<()>,
    before: SigSet,
}

impl Newsroom {
    /// Starts listening. Signals that end the program are news from now on.
    pub(super) fn open(asker: Asker) -> std::io::Result<Self> {
        let (sender, news) = channel();
        let mut ending = SigSet::empty();
        ENDING.iter().for_each(|signal| ending.add(*signal));
        // Before the first thread: each inherits it.
        let before = SigSet::thread_get_mask()?;
        ending.thread_block()?;
        let signals = sender.clone();
        spawn("signals", move || wait_for(&ending, &signals))?;
        let keys = sender.clone();
        spawn("keys", move || read_keys(&keys))?;
        let (questions, asked) = sync_channel(1);
        let asker = spawn("daemon", move || answer(asker, &asked, &sender))?;
        Ok(Self {
            news,
            questions,
            asker,
            before,
        })
    }

    /// What comes next, if anything until `deadline`.
    pub(super) fn next(&self, deadline: Instant) -> Result<Option<News>> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.news.recv_timeout(left) {
            Ok(news) => Ok(Some(news)),
            Err(RecvTimeoutError::Timeout) if !self.asker.is_finished() => Ok(None),
            Err(_) => bail!("a thread has ended unexpectedly"),
        }
    }

    /// Has the daemon asked; the answer is news.
    pub(super) fn ask(&self) {
        // Full means that somebody asks already.
        let _ = self.questions.try_send(());
    }

    /// Ends the program by a signal, as it would have without us.
    pub(super) fn die_of(&self, number: Signal) {
        // SAFETY: the default action is no handler that could do anything.
        let _ = unsafe { signal(number, SigHandler::SigDfl) };
        let _ = self.before.thread_set_mask();
        let _ = raise(number);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn wait_for(signals: &SigSet, news: &Sender<News>) {
    while let Ok(signal) = signals.wait() {
        if news.send(News::Signal(signal)).is_err() {
            return;
        }
    }
}

fn read_keys(news: &Sender<News>) {
    loop {
        let told = match event::read() {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => News::Key(key),
            Ok(Event::Resize(..)) => News::Resized,
            Ok(_) => continue,
            Err(_) => News::Gone,
        };
        let last = matches!(told, News::Gone);
        if news.send(told).is_err() || last {
            return;
        }
    }
}

fn answer(mut asker: Asker, asked: &Receiver<()>, news: &Sender<News>) {
    while asked.recv().is_ok() {
        let picture = asker.ask().map_err(|error| error.to_string());
        if news.send(News::Picture(Box::new(picture))).is_err() {
            return;
        }
    }
}
