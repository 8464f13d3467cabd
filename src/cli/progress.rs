//! A progress bar on stderr, for people and for work that lasts.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sonolume::Progress;

use super::console::Console;

/// Work shorter than this shows no bar.
const PATIENCE: Duration = Duration::from_millis(700);

/// A bar that appears once the work has lasted a moment, if stderr is a terminal, and vanishes when dropped.
pub struct Bar {
    bar: ProgressBar,
    watcher: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Bar {
    pub fn new(label: String, console: &Console) -> Self {
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::hidden());
        if console.quiet() || !std::io::stderr().is_terminal() {
            return Self { bar, watcher: None };
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{bar:30}] {percent:>3}% {elapsed}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(label);
        let (sender, receiver) = channel();
        let shown = bar.clone();
        let watcher = std::thread::spawn(move || {
            if receiver.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                shown.set_draw_target(ProgressDrawTarget::stderr());
                // A picture of one tile has nothing to count: the spinner shows that it is alive.
                shown.enable_steady_tick(Duration::from_millis(120));
            }
        });
        Self { bar, watcher: Some((sender, watcher)) }
    }

    pub fn update(&self, progress: Progress) {
        self.bar.set_length(progress.total as u64);
        self.bar.set_position(progress.done as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some((sender, watcher)) = self.watcher.take() {
            drop(sender);
            // It only waits and draws; if it panicked there is no bar to remove.
            let _ = watcher.join();
        }
        self.bar.finish_and_clear();
    }
}
