//! The two ends of a process that measures: what it runs, and how it is started, listened to, and ended.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::assignment::{Assignment, Task};
use crate::engine::Failure;
use crate::row::Line;
use crate::{kill, stage};

/// The first argument of such a process; the second is its assignment.
pub(crate) const FLAG: &str = "--assignment";

/// A process that says nothing for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(45 * 60);

/// What a process with an assignment does.
pub(crate) fn carry_out(assignment: &str) -> ExitCode {
    let mut tell = |line: Line| {
        let text = serde_json::to_string(&line).expect("a line has nothing that JSON cannot say");
        let mut out = io::stdout().lock();
        // Nobody listens any more: whoever started this is gone.
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            std::process::exit(1);
        }
    };
    let assignment: Assignment = match serde_json::from_str(assignment) {
        Ok(assignment) => assignment,
        Err(error) => {
            eprintln!("{FLAG} is for the bench itself: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = match &assignment.task {
        Task::Measure(workloads) => stage::measure(&assignment, workloads, &mut tell),
        Task::WriteUntilKilled { entries } => kill::write_until_killed(&assignment, *entries, &mut tell),
        Task::OpenAfterKill { entries } => kill::open_after_kill(&assignment, *entries, &mut tell),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(Line::Failed { engine: assignment.engine, what: error.to_string() });
            ExitCode::FAILURE
        }
    }
}

/// A process that was started. It does not outlive this value.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<Line>,
}

impl Process {
    pub(crate) fn start(assignment: &Assignment) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(FLAG)
            .arg(serde_json::to_string(assignment)?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("a process without an output")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for text in BufReader::new(out).lines().map_while(Result::ok) {
                // Engines print what they like.
                let Ok(line) = serde_json::from_str(&text) else { continue };
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next thing that it says, or nothing when it has ended.
    ///
    /// # Errors
    /// When it has been silent for too long.
    pub(crate) fn next(&self) -> Result<Option<Line>, Failure> {
        match self.lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(format!("nothing happened for {SILENCE_MAX:?}").into()),
        }
    }

    /// Whether it has said something that was not asked for yet; then that.
    pub(crate) fn try_next(&self) -> Option<Line> {
        self.lines.try_recv().ok()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as a crash would: nothing of its own runs any more.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it did not end well.
    pub(crate) fn wait(mut self) -> Result<(), Failure> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the process ended with {status}").into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
