//! Mails on their way: a queue with an end, and the one who takes letters to the mail server.
//!
//! What is said to the server is decided in [`pointsman_ha::mail`]. Nobody waits for a mail: letters are posted and
//! forgotten, one after the other is delivered beside everything else, and what finds no room or no server is lost, which
//! is logged.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pointsman_ha::mail::{Alert, Dialogue, Letter, Sent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// Letters that wait at most; for one more, the oldest is lost.
pub const ROOM: usize = 100;
/// For how long the daemon's end waits for letters.
pub const FAREWELL: Duration = Duration::from_millis(500);

/// Where mails go, and from whom to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailConfig {
    /// Address or name of the mail server, and its port.
    pub server: (String, u16),
    /// The name with which it is greeted.
    pub hello: String,
    /// How long a connection and each answer may take.
    pub timeout: Duration,
    /// Name of this host in subjects.
    pub host: String,
    /// Whom mails are from.
    pub sender: String,
    /// Who gets them.
    pub recipients: Vec<String>,
    /// False when none is sent about virtual routers in fault.
    pub faults: bool,
    /// False when none is sent about checks that change nothing for a real server.
    pub checkers: bool,
}

/// Takes letters and delivers them.
///
/// Clones share one queue; the last one that goes takes the letters that wait with it.
#[derive(Debug, Clone)]
pub struct Mailer(Arc<Office>);

#[derive(Debug)]
struct Office {
    queue: Arc<Queue>,
    config: Mutex<Option<Arc<MailConfig>>>,
    courier: AbortHandle,
}

/// Letters that wait, and whether one is under way.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<Waiting>,
    news: Notify,
    empty: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    letters: VecDeque<(Arc<MailConfig>, Letter)>,
    is_busy: bool,
}

impl Mailer {
    /// A mailer that begins at once; without a configuration nothing is sent. Needs a runtime.
    pub fn start(config: Option<MailConfig>) -> Self {
        let queue = Arc::new(Queue::default());
        let courier = tokio::spawn(deliver(Arc::clone(&queue)));
        Self(Arc::new(Office {
            queue,
            config: Mutex::new(config.map(Arc::new)),
            courier: courier.abort_handle(),
        }))
    }

    /// Changes where mails go; letters that were posted before go where they were to go.
    pub fn set_config(&self, config: Option<MailConfig>) {
        let mut now = lock(&self.0.config);
        if now.as_deref() != config.as_ref() {
            *now = config.map(Arc::new);
        }
    }

    /// Posts a letter if somebody gets mails and `wanted` says so of the configuration.
    pub fn post(
        &self,
        wanted: impl Fn(&MailConfig) -> bool,
        alert: impl FnOnce() -> Option<Alert>,
    ) {
        let config = lock(&self.0.config).clone();
        let Some(config) = config.filter(|config| wanted(config)) else {
            return;
        };
        let Some(alert) = alert() else { return };
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let letter = Letter {
            time: since.unwrap_or_default().as_secs(),
            host: config.host.clone(),
            sender: config.sender.clone(),
            recipients: config.recipients.clone(),
            alert,
        };
        self.0.queue.put(config, letter);
    }

    /// Waits until everything is delivered or lost, but no longer than `patience`; then says what is left, and ends.
    pub async fn finish(&self, patience: Duration) {
        let queue = &self.0.queue;
        let quiet = async {
            loop {
                let emptied = queue.empty.notified();
                if queue.is_quiet() {
                    return;
                }
                emptied.await;
            }
        };
        let _ = timeout(patience, quiet).await;
        self.0.courier.abort();
        let mut waiting = lock(&queue.state);
        let left = waiting.letters.len() + usize::from(waiting.is_busy);
        if left > 0 {
            tracing::warn!("ends before {left} mails are delivered; they are lost");
        }
        waiting.letters.clear();
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.courier.abort();
    }
}

impl Queue {
    fn put(&self, config: Arc<MailConfig>, letter: Letter) {
        let mut waiting = lock(&self.state);
        if waiting.letters.len() >= ROOM
            && let Some((_, lost)) = waiting.letters.pop_front()
        {
            tracing::warn!(subject = %lost.subject(), "too many mails wait: this one is lost");
        }
        waiting.letters.push_back((config, letter));
        drop(waiting);
        self.news.notify_one();
    }

    fn is_quiet(&self) -> bool {
        let waiting = lock(&self.state);
        waiting.letters.is_empty() && !waiting.is_busy
    }

    /// The next letter, if it goes by the same way when one is given.
    fn take(&self, same: Option<&Arc<MailConfig>>) -> Option<(Arc<MailConfig>, Letter)> {
        let mut waiting = lock(&self.state);
        let goes = |(config, _): &(Arc<MailConfig>, Letter)| {
            same.is_none_or(|same| Arc::ptr_eq(same, config))
        };
        let next = match waiting.letters.front() {
            Some(front) if goes(front) => waiting.letters.pop_front(),
            _ => None,
        };
        waiting.is_busy = next.is_some();
        if waiting.letters.is_empty() && next.is_none() {
            self.empty.notify_waiters();
        }
        next
    }
}

/// Delivers what is in the queue, for ever.
async fn deliver(queue: Arc<Queue>) {
    let mut names = Names::default();
    loop {
        let Some((config, letter)) = queue.take(None) else {
            queue.news.notified().await;
            continue;
        };
        match connect(&config, &mut names).await {
            Ok(stream) => converse(stream, &queue, &config, letter).await,
            Err(error) => {
                let (server, port) = &config.server;
                let subject = letter.subject();
                tracing::warn!(%error, server, port, %subject, "can't connect to the mail server: the mail is lost");
            }
        }
    }
}

/// Connects to the mail server.
async fn connect(config: &MailConfig, names: &mut Names) -> std::io::Result<TcpStream> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let connected = async {
        let addresses = names.find(&config.server).await?;
        TcpStream::connect(&addresses[..]).await
    };
    timeout(config.timeout, connected).await.map_err(late)?
}

/// Hands a letter over, and those that follow it by the same way.
async fn converse(mut stream: TcpStream, queue: &Queue, config: &Arc<MailConfig>, letter: Letter) {
    let begun = Instant::now();
    let mut dialogue = Dialogue::new(&config.hello, config.timeout, Duration::ZERO);
    let mut subject = letter.subject();
    let mut is_sent = false;
    dialogue.send(letter, Duration::ZERO);
    let mut bytes = vec![0; 4096];
    loop {
        if let Some(outcome) = dialogue.poll_outcome() {
            is_sent = true;
            match outcome {
                Ok(Sent { refused }) => {
                    tracing::info!(%subject, "a mail was sent");
                    for (recipient, answer) in refused {
                        tracing::warn!(%recipient, %answer, %subject, "the mail server does not take this recipient");
                    }
                }
                Err(fault) => tracing::warn!(%fault, %subject, "a mail is lost"),
            }
        }
        if is_sent && !dialogue.is_ending() {
            match queue.take(Some(config)) {
                Some((_, next)) => {
                    subject = next.subject();
                    is_sent = false;
                    dialogue.send(next, begun.elapsed());
                    continue;
                }
                None => dialogue.quit(begun.elapsed()),
            }
        }
        // The server may be as slow to read as to speak.
        let deadline = begun + dialogue.poll_timeout().unwrap_or_default();
        if let Some(output) = dialogue.poll_output() {
            match timeout_at(deadline, stream.write_all(&output)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => dialogue.handle_end(begun.elapsed()),
                Err(_) => dialogue.handle_timeout(begun.elapsed()),
            }
            continue;
        }
        if dialogue.is_over() {
            return;
        }
        match timeout_at(deadline, stream.read(&mut bytes)).await {
            Ok(Ok(0) | Err(_)) => dialogue.handle_end(begun.elapsed()),
            Ok(Ok(read)) => dialogue.handle_input(&bytes[..read], begun.elapsed()),
            Err(_) => dialogue.handle_timeout(begun.elapsed()),
        }
    }
}

type Found = std::io::Result<Vec<SocketAddr>>;

/// Asks for the addresses of names, on a thread of its own: the runtime's end would wait for its own threads, and the
/// resolver takes as long as it likes.
#[derive(Debug, Default)]
struct Names {
    /// A question that was not answered in time, and is waited for instead of another.
    asked: Option<((String, u16), oneshot::Receiver<Found>)>,
}

impl Names {
    async fn find(&mut self, server: &(String, u16)) -> Found {
        let (name, port) = server;
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(vec![(address, *port).into()]);
        }
        if self.asked.as_ref().is_none_or(|(asked, _)| asked != server) {
            let (answer, answered) = oneshot::channel();
            let question = server.clone();
            std::thread::Builder::new()
                .name("mail server".to_owned())
                .spawn(move || {
                    let (name, port) = &question;
                    let found = std::net::ToSocketAddrs::to_socket_addrs(&(&**name, *port));
                    let _ = answer.send(found.map(Iterator::collect));
                })?;
            self.asked = Some((server.clone(), answered));
        }
        let Some((_, answered)) = &mut self.asked else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        let found = answered.await;
        self.asked = None;
        let found = found.map_err(|_| std::io::Error::from(std::io::ErrorKind::NotFound))??;
        if found.is_empty() {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        Ok(found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
