//! `pointsman top`: services and real servers, live.

mod list;
mod news;
mod screen;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use list::{Picture, Sorting};
use news::{Asker, News, Newsroom};

/// What is looked at, and how.
#[derive(Debug)]
struct Top {
    picture: Option<Picture>,
    /// Why there is no newer picture.
    trouble: Option<String>,
    sorting: Sorting,
    /// First row shown.
    first: usize,
    /// Rows there is room for.
    height: usize,
    delay: Duration,
    paused: bool,
}

/// What a key asks for besides changes to the view.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    Quit,
}

impl Top {
    fn new(delay: Duration) -> Self {
        Self {
            picture: None,
            trouble: None,
            sorting: Sorting::default(),
            first: 0,
            height: 0,
            delay,
            paused: false,
        }
    }

    fn resize(&mut self, lines: u16) {
        self.height = lines.saturating_sub(screen::FRAME_LINES).into();
        self.scroll_to(self.first);
    }

    /// Takes a newer picture.
    fn show(&mut self, picture: Result<Picture, String>) {
        match picture {
            Ok(mut picture) => {
                picture.sort(self.sorting);
                self.picture = Some(picture);
                self.trouble = None;
                self.scroll_to(self.first);
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    /// Shows the rows from `first` on, as far as there are that many.
    fn scroll_to(&mut self, first: usize) {
        let rows = self.picture.as_ref().map_or(0, Picture::len);
        self.first = first.min(rows.saturating_sub(self.height));
    }

    fn sort_by(&mut self, sorting: Sorting) {
        self.sorting = sorting;
        if let Some(picture) = &mut self.picture {
            picture.sort(sorting);
        }
        self.scroll_to(0);
    }

    fn press(&mut self, key: KeyEvent) -> Wish {
        let page = self.height.saturating_sub(1).max(1);
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Wish::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Down | KeyCode::Char('j') => self.scroll_to(self.first + 1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll_to(self.first.saturating_sub(1)),
            KeyCode::PageDown => self.scroll_to(self.first + page),
            KeyCode::PageUp => self.scroll_to(self.first.saturating_sub(page)),
            KeyCode::Home | KeyCode::Char('g') => self.scroll_to(0),
            KeyCode::End | KeyCode::Char('G') => self.scroll_to(usize::MAX),
            KeyCode::Char('n') => {
                let behind = self.picture.as_ref();
                if let Some(row) = behind.and_then(|picture| picture.service_behind(self.first)) {
                    self.scroll_to(row);
                }
            }
            KeyCode::Char('p') => {
                let before = self.picture.as_ref();
                if let Some(row) = before.and_then(|picture| picture.service_before(self.first)) {
                    self.scroll_to(row);
                }
            }
            KeyCode::Char('s') => self.sort_by(self.sorting.turned(1)),
            KeyCode::Char('S') => self.sort_by(self.sorting.previous()),
            KeyCode::Char(' ') => self.paused = !self.paused,
            _ => {}
        }
        Wish::Nothing
    }
}

/// `pointsman top`: live on a terminal, one picture otherwise or when `once`.
pub(crate) fn run(socket: &Path, delay: Duration, once: bool) -> Result<ExitCode> {
    if once || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let picture = Asker::new(socket)
            .ask()
            .context("is `pointsman run` running?")?;
        io::stdout().write_all(screen::plain(&picture).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    // A daemon that goes while it is asked must not end us with the terminal as it is.
    crate::on_broken_pipe(libc::SIG_IGN);
    // Before the screen is taken: who can't be asked can be said better without it.
    let mut asker = Asker::new(socket);
    let picture = asker.ask().context("is `pointsman run` running?")?;
    let newsroom = Newsroom::open(asker).context("starting threads")?;
    let mut top = Top::new(delay);
    top.show(Ok(picture));
    // Restores the terminal on a panic, too.
    let mut terminal = ratatui::try_init().context("taking the terminal")?;
    let ended = live(&mut terminal, &mut top, &newsroom);
    // Shows the cursor again.
    drop(terminal);
    ratatui::try_restore().context("giving the terminal back")?;
    if let Some(signal) = ended? {
        newsroom.die_of(signal);
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws and listens until somebody has enough; returns the signal that said so, if any.
fn live(
    terminal: &mut DefaultTerminal,
    top: &mut Top,
    newsroom: &Newsroom,
) -> Result<Option<nix::sys::signal::Signal>> {
    let mut next = Instant::now() + top.delay;
    let mut asked = false;
    loop {
        top.resize(terminal.size().context("asking the terminal")?.height);
        terminal
            .draw(|frame| screen::draw(frame, top))
            .context("drawing")?;
        match newsroom.next(next)? {
            Some(News::Key(key)) => {
                if top.press(key) == Wish::Quit {
                    return Ok(None);
                }
            }
            Some(News::Resized) => {}
            Some(News::Gone) => return Ok(None),
            Some(News::Signal(signal)) => return Ok(Some(signal)),
            Some(News::Picture(picture)) => {
                asked = false;
                if !top.paused {
                    top.show(*picture);
                }
            }
            None => {
                next = Instant::now() + top.delay;
                if !top.paused && !asked {
                    newsroom.ask();
                    asked = true;
                }
            }
        }
    }
}
