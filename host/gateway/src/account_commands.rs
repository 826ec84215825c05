//! The commands `sluicegate user …`: users in the state file. A running gateway that uses the same file knows of each
//! change within a second.

use super::print;
use anyhow::{Context, bail};
use clap::{Arg, ArgAction, ArgMatches, FromArgMatches, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use sluicegate_accounts::{Accounts, Grants, Pattern, Role, Secret, UserInfo, hash_password};
use sluicegate_config::Config;
use std::{
    io::{self, BufRead, IsTerminal, Read, Write},
    path::PathBuf,
};

/// Longest line that is read as a password, in bytes; longer ones are refused.
const MAX_LINE: u64 = 2_048;

#[derive(Subcommand)]
pub enum UserCommand {
    /// Add a user. Its password is asked for, or read as one line of standard input.
    Add(Add),
    /// Give a user another password, which ends its sign-ins.
    Passwd {
        /// Name of the user.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// List the users of config and state file, with what they may do.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Remove a user from the state file, with its sign-ins, tokens and links.
    Remove {
        /// Name of the user.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Print the hash of a password, for `password` under [users.NAME] in a config.
    Hash,
}

#[derive(clap::Args)]
pub struct Add {
    /// Name of the user.
    name: String,
    /// A group of the config whose rights the user has; may be given several times.
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    #[command(flatten)]
    rights: Rights,
    #[command(flatten)]
    place: Place,
}

/// An option for each role.
struct Rights(Grants);

impl clap::Args for Rights {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(Role::ALL.map(|role| {
            Arg::new(role.name())
                .long(role.name())
                .value_name("PATTERN")
                .value_parser(clap::value_parser!(Pattern))
                .action(ArgAction::Append)
                .help(help(role))
        }))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Rights {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut rights = Rights(Grants::default());
        rights.update_from_arg_matches(matches)?;
        Ok(rights)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for role in Role::ALL {
            let patterns = matches.get_many::<Pattern>(role.name());
            let patterns = patterns.into_iter().flatten().cloned();
            self.0.patterns_mut(role).extend(patterns);
        }
        Ok(())
    }
}

fn help(role: Role) -> &'static str {
    match role {
        Role::View => {
            "Streams that the user may watch: a name, or a pattern such as 'porch*' or '*'; may be given several times"
        }
        Role::Capture => "Streams of which the user may take images",
        Role::Talk => "Streams through whose devices the user may talk",
        Role::Control => "Streams whose devices the user may control",
        Role::Publish => "Streams to which the user may send media",
        Role::Admin => {
            "Streams that the user may administer, which includes all else; '*' for the gateway, too"
        }
    }
}

/// Where the users are.
#[derive(clap::Args)]
pub struct Place {
    /// The gateway's config file, which says where the state file is.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state file, if it is another one.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

impl UserCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// The message for the user.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            UserCommand::Add(add) => add.run(),
            UserCommand::Passwd { name, place } => {
                let (accounts, state) = place.open()?;
                accounts.check_user(&name)?;
                accounts.set_password(&name, &new_password()?)?;
                let state = state.display();
                print(&format!(
                    "{name} has another password, in {state}; its sign-ins have ended\n"
                ))
            }
            UserCommand::List { place } => {
                let (accounts, _) = place.open()?;
                let users = accounts.users();
                match users.is_empty() {
                    true => print("there are no users; add one with `sluicegate user add NAME`\n"),
                    false => print(&users.iter().map(line).collect::<String>()),
                }
            }
            UserCommand::Remove { name, place } => {
                let (accounts, state) = place.open()?;
                accounts.remove_user(&name)?;
                let state = state.display();
                print(&format!(
                    "removed {name} from {state}, with its sign-ins, tokens and links\n"
                ))
            }
            UserCommand::Hash => {
                let hash = hash_password(&new_password()?)?;
                print(&format!("{}\n", hash.expose()))
            }
        }
    }
}

impl Add {
    fn run(self) -> anyhow::Result<()> {
        let Add {
            name,
            group,
            rights: Rights(grants),
            place,
        } = self;
        if grants.is_empty() && group.is_empty() {
            bail!(
                "{name} could do nothing; name at least one role with its streams, such as --view '*', or a --group"
            );
        }
        let (accounts, state) = place.open()?;
        // What can be said before the password is typed is said then.
        accounts.check_new_user(&name, &group)?;
        accounts.add_user(&name, Some(&new_password()?), group, grants)?;
        print(&format!("added {name} to {}\n", state.display()))
    }
}

impl Place {
    /// Opens the accounts, and says where the state file is.
    fn open(self) -> anyhow::Result<(Accounts, PathBuf)> {
        let config = match &self.config {
            Some(file) => Config::load(file)?,
            None => Config::default(),
        };
        let state = self.state.or_else(|| config.state_file());
        let state = state.context(
            "there is no place for the state file; name the gateway's config with --config, or the file with --state",
        )?;
        let accounts = Accounts::open(&config, Some(state.clone()))?;
        Ok((accounts, state))
    }
}

/// A user in one line.
fn line(user: &UserInfo) -> String {
    let mut parts = vec![user.name.clone()];
    for role in Role::ALL {
        let patterns = user.grants.patterns(role);
        if !patterns.is_empty() {
            let patterns: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
            parts.push(format!("{role}: {}", patterns.join(" ")));
        }
    }
    if user.grants.is_empty() {
        parts.push("may do nothing".into());
    }
    if !user.groups.is_empty() {
        parts.push(format!("groups: {}", user.groups.join(" ")));
    }
    if user.in_config {
        parts.push("in the config".into());
    }
    if !user.has_password {
        parts.push("no password".into());
    }
    parts.join(", ") + "\n"
}

/// Asks for a new password twice, or reads it as one line if standard input is no terminal.
fn new_password() -> anyhow::Result<Secret> {
    if !io::stdin().is_terminal() {
        let password = read_line()?;
        if password.expose().is_empty() {
            bail!(
                "there is no password: write it to standard input as one line, or run this on a terminal"
            );
        }
        return Ok(password);
    }
    let password = ask("Password: ")?;
    match ask("The same again: ")? == password {
        true => Ok(password),
        false => bail!("the two passwords differ; nothing was changed"),
    }
}

/// Asks on the terminal, which does not show the answer.
fn ask(question: &str) -> anyhow::Result<Secret> {
    let mut terminal = io::stderr();
    let hidden = Hidden::begin().context("cannot keep the terminal from showing the password")?;
    write!(terminal, "{question}").context("cannot write to standard error")?;
    let answer = read_line();
    drop(hidden);
    // The end of the line was not shown either.
    writeln!(terminal).context("cannot write to standard error")?;
    answer
}

fn read_line() -> anyhow::Result<Secret> {
    let mut line = Vec::new();
    let read = io::stdin()
        .lock()
        .take(MAX_LINE)
        .read_until(b'\n', &mut line);
    read.context("cannot read the password from standard input")?;
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).context("the password is not UTF-8")?;
    Ok(Secret::new(text))
}

/// Keeps the terminal from showing what is typed, until it is dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Hidden> {
        let shown = tcgetattr(io::stdin())?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // Drops what was typed before the question, and was shown.
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Hidden(shown))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
