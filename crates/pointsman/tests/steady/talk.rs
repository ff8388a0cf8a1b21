//! Long TCP connections on which client and real servers talk all the time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pointsman_linux::netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::sleep;

/// Between two words of a connection.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs asynchronous work on a thread of its own within a namespace.
fn begin<F: Future<Output = ()>>(
    namespace: &NetNs,
    work: impl FnOnce() -> F + Send + 'static,
) -> JoinHandle<()> {
    let path = namespace.path().to_owned();
    thread::spawn(move || {
        let namespace = NetNs::from_path(path).expect("a namespace");
        let _inside = namespace.enter().expect("enter");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        LocalSet::new().block_on(&runtime, work());
    })
}

/// Says back what it hears, until dropped.
pub struct Echo {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Listens on an address within a namespace.
    pub fn start(namespace: &NetNs, at: SocketAddr) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let over = Arc::clone(&ended);
        let thread = begin(namespace, move || async move {
            let listener = TcpListener::bind(at).await.expect("listen");
            let _ = ready.send(());
            let accept = async {
                while let Ok((mut stream, _)) = listener.accept().await {
                    tokio::task::spawn_local(async move {
                        let (mut from, mut to) = stream.split();
                        let _ = tokio::io::copy(&mut from, &mut to).await;
                    });
                }
            };
            tokio::select! {
                () = accept => {}
                () = until(&over) => {}
            }
        });
        is_ready.recv().expect("it listens");
        Self {
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn until(ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        sleep(PAUSE).await;
    }
}

/// Connections that talk until asked to stop.
pub struct Talk {
    ended: Arc<AtomicBool>,
    words: Arc<Vec<AtomicU64>>,
    broken: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

impl Talk {
    /// Opens so many connections from within a namespace.
    pub fn start(namespace: &NetNs, to: SocketAddr, connections: usize) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let words: Arc<Vec<AtomicU64>> =
            Arc::new((0..connections).map(|_| AtomicU64::new(0)).collect());
        let broken = Arc::new(Mutex::new(Vec::new()));
        let thread = begin(namespace, {
            let (ended, words, broken) = (ended.clone(), words.clone(), broken.clone());
            move || async move {
                let tasks: Vec<_> = (0..connections)
                    .map(|at| {
                        let (ended, words, broken) = (ended.clone(), words.clone(), broken.clone());
                        tokio::task::spawn_local(async move {
                            if let Err(error) = talk(to, &ended, &words[at]).await {
                                let said = words[at].load(Ordering::Relaxed);
                                let text = format!("connection {at}, after {said} words: {error}");
                                broken.lock().expect("no panic").push(text);
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.expect("no panic");
                }
            }
        });
        let talk = Self {
            ended,
            words,
            broken,
            thread,
        };
        talk.wait_for_words(1);
        talk
    }

    /// Waits until every connection that is not broken has said and heard so many more.
    pub fn wait_for_words(&self, more: u64) {
        let counts = || -> Vec<u64> {
            let words = self.words.iter();
            words.map(|word| word.load(Ordering::Relaxed)).collect()
        };
        let begun = counts();
        super::segment::wait("every connection to go on", || {
            !self.broken.lock().expect("no panic").is_empty()
                || counts()
                    .iter()
                    .zip(&begun)
                    .all(|(now, begun)| *now >= begun + more)
        });
        let broken = self.broken.lock().expect("no panic");
        assert!(broken.is_empty(), "{broken:#?}");
    }

    /// Stops; how many words were said and heard, and what broke.
    pub fn stop(self) -> (u64, Vec<String>) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
        let words = self.words.iter().map(|word| word.load(Ordering::Relaxed));
        let broken = std::mem::take(&mut *self.broken.lock().expect("no panic"));
        (words.sum(), broken)
    }
}

async fn talk(to: SocketAddr, ended: &AtomicBool, words: &AtomicU64) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    while !ended.load(Ordering::Relaxed) {
        let number = words.load(Ordering::Relaxed);
        stream.write_all(&number.to_be_bytes()).await?;
        let mut heard = [0; 8];
        stream.read_exact(&mut heard).await?;
        if u64::from_be_bytes(heard) != number {
            return Err(std::io::Error::other(format!(
                "heard {heard:?} for {number}"
            )));
        }
        words.store(number + 1, Ordering::Relaxed);
        sleep(PAUSE).await;
    }
    Ok(())
}
