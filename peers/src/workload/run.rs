//! The parent: visits to all stores in turn, round by round, so that a slow minute of the machine hits all of them.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    commits::Roots,
    ledger::History,
    report::Report,
    visit::{Order, Outcome, Task},
};
use crate::{
    Arguments, Result,
    hardware::Hardware,
    progress,
    stores::{self, Peer},
};

/// Keys that share an account.
const KEYS_AN_ACCOUNT: u64 = 100;
/// Kills of each store.
const KILLS: u64 = 3;
/// How much longer each process goes on, after it said that it may be killed, than the one before.
const KILL_STEP: Duration = Duration::from_millis(35);

/// A store in this run.
struct Guest {
    peer: Peer,
    path: PathBuf,
    history: History,
}

/// A run: what was found so far.
struct Run<'a> {
    arguments: &'a Arguments,
    report: Report,
    /// What the stores with Ethereum's root said, and who said it first.
    roots: Vec<(&'static str, Roots)>,
}

/// Measures, and prints the table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let parent = arguments.path.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("metisdb-peers-").tempdir_in(parent)?;
    let mut guests = guests(arguments, folder.path())?;
    let peers: Vec<Peer> = guests.iter().map(|guest| guest.peer).collect();
    let report = Report::new(arguments.keys, arguments.keys / KEYS_AN_ACCOUNT, Hardware::read(), &peers);
    let mut run = Run { arguments, report, roots: Vec::new() };
    for guest in &mut guests {
        run.visit(guest, Task::Load, 0)?;
    }
    for task in [Task::Measure, Task::Beside] {
        for round in 0..arguments.rounds {
            for guest in &mut guests {
                run.visit(guest, task, round)?;
            }
        }
    }
    for kill in 0..KILLS {
        for guest in guests.iter_mut().filter(|guest| guest.peer.persistent) {
            run.visit(guest, Task::WriteUntilKilled, kill)?;
            run.visit(guest, Task::OpenAfterKill, kill)?;
        }
    }
    folder.close()?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&run.report)?);
    } else {
        println!("{}", run.report);
    }
    Ok(())
}

/// The stores that were asked for, and the one that all are compared with.
fn guests(arguments: &Arguments, folder: &Path) -> Result<Vec<Guest>> {
    let all = stores::all();
    if let Some(unknown) = arguments.peers.iter().find(|name| all.iter().all(|peer| peer.name != name.as_str())) {
        let names: Vec<&str> = all.iter().map(|peer| peer.name).collect();
        return Err(format!("no store {unknown}; there are {}", names.join(", ")).into());
    }
    let wanted = |peer: &Peer| {
        arguments.peers.is_empty()
            || peer.name == stores::BASE
            || arguments.peers.iter().any(|name| name.as_str() == peer.name)
    };
    let guest = |peer: Peer| Guest { peer, path: folder.join(peer.name), history: History::new() };
    Ok(all.into_iter().filter(wanted).map(guest).collect())
}

impl Run<'_> {
    /// Sends a process to a store, and keeps what it says.
    fn visit(&mut self, guest: &mut Guest, task: Task, visit: u64) -> Result<()> {
        let Guest { peer, path, history } = guest;
        progress(&format!("{task:?} {visit}: {}", peer.title));
        let order = Order {
            peer: peer.name.into(),
            path: path.clone(),
            keys: self.arguments.keys,
            accounts: self.arguments.keys / KEYS_AN_ACCOUNT,
            seed: self.arguments.seed,
            reads: self.arguments.reads,
            visit,
            history: std::mem::take(history),
            task,
        };
        let outcome = send(&order).map_err(|error| format!("{}, {task:?} {visit}: {error}", peer.title))?;
        if peer.persistent {
            sync(path)?;
        }
        *history = outcome.history;
        self.compare_roots(peer.title, outcome.roots)?;
        for (figure, value) in outcome.samples {
            self.report.add(figure, peer.name, value);
        }
        Ok(())
    }

    /// All stores with Ethereum's root have to agree on it, block by block: they were given the same ones.
    fn compare_roots(&mut self, title: &'static str, roots: Roots) -> Result<()> {
        for (other, known) in &self.roots {
            for (block, root) in &roots {
                if known.get(block).is_some_and(|known| known != root) {
                    return Err(format!("block {block}: root {root} of {title}, another one of {other}").into());
                }
            }
        }
        match self.roots.iter_mut().find(|known| known.0 == title) {
            Some((_, known)) => known.extend(roots),
            None => self.roots.push((title, roots)),
        }
        let of_several = |block: &&u64| self.roots.iter().filter(|known| known.1.contains_key(block)).count() > 1;
        self.report.equal_roots = self.roots.first().map_or(0, |known| known.1.keys().filter(of_several).count());
        Ok(())
    }
}

/// Starts a process, and reads its answer. One that is to be killed is.
fn send(order: &Order) -> Result<Outcome> {
    let mut child =
        Command::new(std::env::current_exe()?).arg("visit").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let answer = talk(&mut child, order);
    if order.task == Task::WriteUntilKilled {
        thread::sleep(KILL_STEP * order.visit as u32);
        child.kill()?;
    }
    let status = child.wait()?;
    let answer = answer?;
    if answer.is_empty() {
        return Err(format!("the process gave no answer: {status}").into());
    }
    Ok(serde_json::from_str(&answer)?)
}

/// Has the system write whatever a store left to it, which the next store's blocks would wait for otherwise.
fn sync(path: &Path) -> Result<()> {
    let status = Command::new("sync").arg("--file-system").arg(path).status()?;
    if status.success() { Ok(()) } else { Err(format!("sync: {status}").into()) }
}

fn talk(child: &mut Child, order: &Order) -> Result<String> {
    let mut line = serde_json::to_string(order)?;
    line.push('\n');
    child.stdin.take().ok_or("no pipe")?.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(child.stdout.take().ok_or("no pipe")?).read_line(&mut answer)?;
    Ok(answer)
}
