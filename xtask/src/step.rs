//! Runs one command with its output in a log, and says in one line how it went.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// Characters of a command that its line shows.
const SHOWN_MAX: usize = 100;

/// Lines of the log that a failure shows.
const TAIL_LINES: usize = 60;

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The cargo that runs this tool.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// A command as a person would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let words = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned());
    let line = std::iter::once(program)
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ");
    match line.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

/// Runs the command to its end and returns its whole output; prints `name`, the time and the
/// command. A failure carries the end of the log and where the whole of it is.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<String, String> {
    let folder = root().join("target/xtask");
    let log = folder.join(format!("{name}.log"));
    let open = || {
        fs::create_dir_all(&folder)?;
        let file = File::create(&log)?;
        Ok::<_, std::io::Error>((file.try_clone()?, file))
    };
    let (out, err) = open().map_err(|error| format!("{}: {error}", log.display()))?;
    let line = shown(command);
    let started = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .map_err(|error| format!("{line}: {error}"))?;
    let seconds = started.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    if status.success() {
        println!("ok    {name:<12} {seconds:>6.1} s  {line}");
        return Ok(text);
    }
    println!("FAIL  {name:<12} {seconds:>6.1} s  {line}");
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    Err(format!(
        "{name} failed ({status}); the log, {}, ends:\n{tail}",
        log.display()
    ))
}
