//! Building `simd`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use crate::{Error, IbcGo, version::shared};

/// Where another build of the program is, with whatever version.
const ELSEWHERE: &str = "NETWORK_TEST_SIMD";

/// The path of `simd` with the version of ibc-go that is wanted, built if it is not or if its
/// sources have changed since.
///
/// The first build compiles some 1,300 packages, four minutes of one core. Processes that ask at
/// the same time wait for one of them to build.
///
/// # Errors
/// There is no Go, or the build fails.
pub fn simd() -> Result<PathBuf, Error> {
    if let Some(path) = std::env::var_os(ELSEWHERE) {
        return Ok(PathBuf::from(path));
    }
    let version = IbcGo::wanted()?;
    let folder = target()?.join("interop").join(version.name());
    let built = folder.join("simd");
    fs::create_dir_all(&folder).map_err(Error::io("make the folder of simd"))?;
    // The lock ends with the file, so with the process if it is killed.
    let lock =
        File::create(folder.join("simd.lock")).map_err(Error::io("make the lock of simd"))?;
    lock.lock().map_err(Error::io("lock the build of simd"))?;

    let sources = version.sources();
    if is_newer(&built, &[&sources, &shared()]).map_err(Error::io("look at the sources of simd"))? {
        return Ok(built);
    }
    let next = folder.join("simd.next");
    let mut go = Command::new("go");
    // Stripped, it is a third smaller and links faster.
    go.args(["build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o"]);
    go.arg(&next).arg(".").current_dir(&sources);
    run(&mut go)?;
    fs::rename(&next, &built).map_err(Error::io("put simd in its place"))?;
    Ok(built)
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let text = format!("{command:?}");
    let output = command.output().map_err(Error::io(format!("run {text}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::Command {
        command: text,
        status: output.status,
        output: String::from_utf8_lossy(&said).into_owned(),
    })
}

/// Cargo's target directory: the one that holds this executable.
fn target() -> Result<PathBuf, Error> {
    let executable = std::env::current_exe().map_err(Error::io("tell where this program is"))?;
    let mut above = executable.ancestors();
    let found = above.find(|folder| folder.join(".rustc_info.json").exists()).map(Path::to_owned);
    found.ok_or(Error::NoTarget { executable })
}

fn is_newer(built: &Path, sources: &[&Path]) -> std::io::Result<bool> {
    let Ok(built) = modified(built) else { return Ok(false) };
    for folder in sources {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() && modified(&entry.path())? >= built {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}
